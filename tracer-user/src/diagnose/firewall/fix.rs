//! The commands that let one flow pass a rule, the narrowest first.

use std::net::{IpAddr, SocketAddr};

use crate::case::{Action, Backend, Case, Fitting, Hook, Netns, Segment};
use crate::diagnose::finding::Finding;
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

/// What is to pass a rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packets {
    /// Those of nginx's connection.
    Flow(Flow),
    /// Those that ask for a neighbour's link-layer address, or tell it.
    Neighbour { wanted: IpAddr, answer: bool },
}

impl Packets {
    /// Both ends are on one machine, whose chains see the answers as well.
    fn both_ways(&self) -> Option<[Flow; 2]> {
        match self {
            Self::Flow(flow) if flow.stays_here() => Some([*flow, flow.back()]),
            _ => None,
        }
    }

    fn nft(&self) -> String {
        match self {
            Self::Flow(flow) => flow.nft(),
            Self::Neighbour { wanted, answer } => match (wanted, answer) {
                (IpAddr::V4(_), false) => format!("arp operation request arp daddr ip {wanted}"),
                (IpAddr::V4(_), true) => format!("arp operation reply arp saddr ip {wanted}"),
                (IpAddr::V6(_), false) => "icmpv6 type nd-neighbor-solicit".to_owned(),
                (IpAddr::V6(_), true) => "icmpv6 type nd-neighbor-advert".to_owned(),
            },
        }
    }

    fn iptables(&self) -> String {
        match self {
            Self::Flow(flow) => flow.iptables(),
            Self::Neighbour { wanted, answer } => match (wanted, answer) {
                (IpAddr::V4(_), false) => format!("--opcode Request -d {wanted}"),
                (IpAddr::V4(_), true) => format!("--opcode Reply -s {wanted}"),
                (IpAddr::V6(_), false) => {
                    "-p ipv6-icmp --icmpv6-type neighbour-solicitation".to_owned()
                }
                (IpAddr::V6(_), true) => {
                    "-p ipv6-icmp --icmpv6-type neighbour-advertisement".to_owned()
                }
            },
        }
    }

    /// How to list the rules that they can have met.
    pub fn with_rules_to_read(&self, case: &Case, netns: Netns, finding: Finding) -> Finding {
        let commands = match self {
            Self::Flow(_) => return super::with_rules_to_read(case, netns, finding),
            Self::Neighbour { wanted, .. } if wanted.is_ipv4() => [
                "nft -a list ruleset",
                "arptables-legacy -L -n -v --line-numbers",
                "ebtables-legacy -L --Lc",
            ],
            Self::Neighbour { .. } => [
                "nft -a list ruleset",
                "ip6tables-save -c",
                "ip6tables-legacy-save -c",
            ],
        };
        commands.into_iter().fold(finding, |finding, command| {
            finding.fix(wording::in_namespace(case, netns, command))
        })
    }
}

/// What lets `packets` pass the rule, the rule's manager first.
pub(super) fn steps(
    case: &Case,
    fitting: &Fitting,
    packets: &Packets,
    hook: Hook,
    netns: Netns,
) -> Vec<String> {
    let managed = match packets {
        Packets::Flow(flow) => managers::of(fitting)
            .map(|manager| manager.fix(case, netns, fitting, flow, hook))
            .unwrap_or_default(),
        Packets::Neighbour { .. } => Vec::new(),
    };
    let direct = match fitting.backend {
        Backend::Nft => nft(fitting, packets),
        Backend::IptablesNft | Backend::IptablesLegacy => iptables(case, fitting, packets),
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

fn nft(fitting: &Fitting, packets: &Packets) -> Vec<String> {
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
                packets.nft()
            ),
            format!("nft delete rule {chain} handle {handle}"),
        ],
        None => {
            let accept = |matches: String| format!("add rule {chain} {matches} accept");
            vec![
                match packets.both_ways() {
                    Some([there, back]) => {
                        format!("nft '{}; {}'", accept(there.nft()), accept(back.nft()))
                    }
                    None => format!("nft {}", accept(packets.nft())),
                },
                format!("nft 'chain {chain} {{ policy accept; }}'"),
            ]
        }
    }
}

fn iptables(case: &Case, fitting: &Fitting, packets: &Packets) -> Vec<String> {
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
            format!(
                "{tool} -I {chain} {position} {} -j ACCEPT",
                packets.iptables()
            ),
            format!("{tool} -D {chain} {position}"),
        ],
        None => {
            let accept = |matches: String| format!("{tool} -A {chain} {matches} -j ACCEPT");
            let mut steps = match packets.both_ways() {
                // `--ports` is either end's.
                Some([flow, _]) if flow.from.ip() == flow.to.ip() => vec![accept(format!(
                    "-p tcp -s {ip} -d {ip} -m multiport --ports {}",
                    flow.service().port(),
                    ip = flow.to.ip(),
                ))],
                Some(both) => both.map(|flow| accept(flow.iptables())).into(),
                None => vec![accept(packets.iptables())],
            };
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
