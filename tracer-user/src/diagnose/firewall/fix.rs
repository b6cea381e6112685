//! The commands that let one flow pass a rule, the narrowest first.

use std::net::SocketAddr;

use crate::case::{Action, Backend, Case, Fitting, Hook, Netns, Segment};
use crate::diagnose::firewall::managers;
use crate::diagnose::firewall::rule::{family_name, is_policy, program};
use crate::diagnose::wording::{self, shell_word};

/// The packets to let pass, as the hook sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// They come from the service, not to it.
    pub answer: bool,
}

impl Flow {
    pub fn of(segment: Segment, answer: bool) -> Self {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        Self {
            from: canonical(segment.from),
            to: canonical(segment.to),
            answer,
        }
    }

    /// The end whose port tells the flow: the other one's is chosen anew for each connection.
    pub fn service(&self) -> SocketAddr {
        if self.answer { self.from } else { self.to }
    }

    /// Both ends are on one machine, whose chains see the answers as well.
    fn stays_here(&self) -> bool {
        self.from.ip() == self.to.ip() || self.from.ip().is_loopback()
    }

    fn back(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            answer: !self.answer,
        }
    }

    fn nft(&self) -> String {
        let family = if self.from.is_ipv4() { "ip" } else { "ip6" };
        let port = if self.answer { "sport" } else { "dport" };
        format!(
            "{family} saddr {} {family} daddr {} tcp {port} {}",
            self.from.ip(),
            self.to.ip(),
            self.service().port()
        )
    }

    fn iptables(&self) -> String {
        let port = if self.answer { "--sport" } else { "--dport" };
        format!(
            "-p tcp -s {} -d {} {port} {}",
            self.from.ip(),
            self.to.ip(),
            self.service().port()
        )
    }
}

/// What lets `flow` pass the rule, the rule's manager first.
pub(super) fn steps(
    case: &Case,
    fitting: &Fitting,
    flow: &Flow,
    hook: Hook,
    netns: Netns,
) -> Vec<String> {
    let managed = managers::of(fitting)
        .map(|manager| manager.fix(case, netns, fitting, flow, hook))
        .unwrap_or_default();
    let direct = match fitting.backend {
        Backend::Nft => nft(fitting, flow),
        Backend::IptablesNft | Backend::IptablesLegacy => iptables(case, fitting, flow),
    };
    let direct = direct
        .into_iter()
        .map(|command| wording::in_namespace(case, netns, &command));
    managed
        .into_iter()
        .chain(direct)
        .chain(reader(fitting))
        .collect()
}

fn nft(fitting: &Fitting, flow: &Flow) -> Vec<String> {
    let chain = format!(
        "{} {} {}",
        family_name(fitting.family),
        shell_word(&fitting.table),
        shell_word(&fitting.chain)
    );
    match fitting.handle {
        Some(handle) => vec![
            format!(
                "nft insert rule {chain} handle {handle} {} accept",
                flow.nft()
            ),
            format!("nft delete rule {chain} handle {handle}"),
        ],
        None => {
            let accept = |flow: Flow| format!("add rule {chain} {} accept", flow.nft());
            let both = format!("{}; {}", accept(*flow), accept(flow.back()));
            vec![
                match flow.stays_here() {
                    true => format!("nft '{both}'"),
                    false => format!("nft {}", accept(*flow)),
                },
                format!("nft 'chain {chain} {{ policy accept; }}'"),
            ]
        }
    }
}

fn iptables(case: &Case, fitting: &Fitting, flow: &Flow) -> Vec<String> {
    let variant = match fitting.backend {
        backend if case.host.iptables == Some(backend) => "",
        Backend::IptablesLegacy => "-legacy",
        _ => "-nft",
    };
    let table = match fitting.table.as_str() {
        "filter" => String::new(),
        table => format!(" -t {}", shell_word(table)),
    };
    let tool = format!("{}{variant}{table}", program(fitting.family));
    let chain = shell_word(&fitting.chain);
    match fitting.position.filter(|_| !is_policy(fitting)) {
        Some(position) => vec![
            format!("{tool} -I {chain} {position} {} -j ACCEPT", flow.iptables()),
            format!("{tool} -D {chain} {position}"),
        ],
        None => {
            let accept = |flow: Flow| format!("{tool} -A {chain} {} -j ACCEPT", flow.iptables());
            let mut steps = vec![match flow.from.ip() == flow.to.ip() {
                // `--ports` is either end's.
                true => format!(
                    "{tool} -A {chain} -p tcp -s {ip} -d {ip} -m multiport --ports {} -j ACCEPT",
                    flow.service().port(),
                    ip = flow.to.ip(),
                ),
                false => accept(*flow),
            }];
            if flow.stays_here() && flow.from.ip() != flow.to.ip() {
                steps.push(accept(flow.back()));
            }
            steps.push(format!("{tool} -P {chain} ACCEPT"));
            steps
        }
    }
}

/// What helps a queue that nobody reads.
fn reader(fitting: &Fitting) -> Option<String> {
    let Action::Queue { number, .. } = fitting.action else {
        return None;
    };
    let bypass = match fitting.backend {
        Backend::Nft => "`flags bypass`",
        _ => "`--queue-bypass`",
    };
    Some(format!(
        "start the program that reads queue {number}, or add {bypass} to the rule so that packets pass while it is away"
    ))
}
