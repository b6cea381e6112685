//! Programs that own rules, known by the chains and tables that they make.

use std::net::SocketAddr;

use crate::case::{Case, Fitting, Hook, Netns};
use crate::diagnose::firewall::fix::Flow;
use crate::diagnose::wording::{in_namespace, shell_word};

/// A program that makes rules and makes them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manager {
    pub name: &'static str,
    /// When it puts back what somebody else took away.
    pub puts_back: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ufw,
    Firewalld,
    Docker,
    KubeProxy,
    Calico,
    Cilium,
    Libvirt,
    Fail2ban,
    Netavark,
}

const MANAGERS: [Manager; 9] = [
    manager("ufw", "with `ufw reload`", Kind::Ufw),
    manager("firewalld", "with its next reload", Kind::Firewalld),
    manager(
        "docker",
        "when it starts or a network changes",
        Kind::Docker,
    ),
    manager(
        "kube-proxy",
        "with its next synchronisation",
        Kind::KubeProxy,
    ),
    manager("calico", "at once", Kind::Calico),
    manager("cilium", "with its next synchronisation", Kind::Cilium),
    manager("libvirt", "when the network starts", Kind::Libvirt),
    manager("fail2ban", "with its next ban", Kind::Fail2ban),
    manager("netavark", "when a container starts", Kind::Netavark),
];

const fn manager(name: &'static str, puts_back: &'static str, kind: Kind) -> Manager {
    Manager {
        name,
        puts_back,
        kind,
    }
}

/// Whose rule it is, where somebody would put it back. `DOCKER-USER` holds what administrators put
/// there themselves.
pub(super) fn of(fitting: &Fitting) -> Option<&'static Manager> {
    let chains = std::iter::once(&fitting.chain)
        .filter(|chain| *chain != "DOCKER-USER")
        .chain(&fitting.leads_to);
    let by_chain = |manager: &&Manager| chains.clone().any(|chain| manager.kind.makes(chain));
    MANAGERS
        .iter()
        .find(|manager| manager.kind.owns_table(&fitting.table))
        .or_else(|| MANAGERS.iter().find(by_chain))
}

impl Manager {
    /// What its own tool is told to let the flow pass, the narrowest first.
    pub fn fix(
        &self,
        case: &Case,
        netns: Netns,
        fitting: &Fitting,
        flow: &Flow,
        hook: Hook,
    ) -> Vec<String> {
        match self.kind {
            Kind::Ufw => vec![in_namespace(case, netns, &ufw(fitting, flow, hook))],
            Kind::Firewalld => firewalld(fitting, flow, hook),
            Kind::Docker => docker(fitting),
            Kind::KubeProxy => kube_proxy(fitting),
            Kind::Calico => vec!["kubectl get networkpolicies -A".to_owned()],
            Kind::Cilium => vec!["kubectl get ciliumnetworkpolicies -A".to_owned()],
            Kind::Libvirt => vec!["virsh net-list --all".to_owned()],
            Kind::Fail2ban => fail2ban(fitting, flow),
            Kind::Netavark => vec!["podman network reload --all".to_owned()],
        }
    }
}

impl Kind {
    fn owns_table(self, table: &str) -> bool {
        match self {
            Kind::Firewalld => table == "firewalld",
            Kind::Docker => table == "docker-bridges",
            Kind::KubeProxy => table == "kube-proxy",
            Kind::Calico => table == "calico",
            Kind::Libvirt => table == "libvirt_network",
            Kind::Fail2ban => table == "f2b-table",
            Kind::Netavark => table == "netavark",
            Kind::Ufw | Kind::Cilium => false,
        }
    }

    fn makes(self, chain: &str) -> bool {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| chain.starts_with(prefix));
        match self {
            Kind::Ufw => begins(&["ufw-", "ufw6-"]),
            Kind::Firewalld => {
                begins(&["IN_", "FWDI_", "FWDO_", "FWD_"]) || chain.ends_with("_ZONES")
            }
            Kind::Docker => chain == "DOCKER" || begins(&["DOCKER-"]) && chain != "DOCKER-USER",
            Kind::KubeProxy => begins(&["KUBE-"]),
            Kind::Calico => begins(&["cali-"]),
            Kind::Cilium => begins(&["CILIUM_", "OLD_CILIUM_"]),
            Kind::Libvirt => begins(&["LIBVIRT_"]),
            Kind::Fail2ban => begins(&["f2b-", "fail2ban-"]),
            Kind::Netavark => begins(&["NETAVARK"]),
        }
    }
}

/// Whatever an administrator told ufw to deny stands in its `user` chains, and an allowing rule
/// has to come before it.
fn ufw(fitting: &Fitting, flow: &Flow, hook: Hook) -> String {
    let by_user = fitting.chain.contains("-user-") && !fitting.chain.contains("limit");
    let place = if by_user { "insert 1 " } else { "" };
    let (from, to, port) = (flow.from.ip(), flow.to.ip(), flow.service().port());
    let ports = match flow.answer {
        true => format!("from {from} port {port} to {to}"),
        false => format!("from {from} to {to} port {port}"),
    };
    let route = if hook == Hook::Forward { "route " } else { "" };
    let out = if matches!(hook, Hook::Output | Hook::Postrouting) {
        "out "
    } else {
        ""
    };
    format!("ufw {route}{place}allow {out}proto tcp {ports}")
}

fn firewalld(fitting: &Fitting, flow: &Flow, hook: Hook) -> Vec<String> {
    let zone = zone(&fitting.chain)
        .map_or_else(String::new, |zone| format!("--zone={} ", shell_word(zone)));
    let port = flow.service().port();
    if hook == Hook::Input && !flow.answer {
        let family = if flow.from.is_ipv4() { "ipv4" } else { "ipv6" };
        return vec![
            format!(
                "firewall-cmd {zone}--add-rich-rule='rule family=\"{family}\" source address=\"{}\" port port=\"{port}\" protocol=\"tcp\" accept'",
                flow.from.ip()
            ),
            format!("firewall-cmd {zone}--add-port={port}/tcp"),
            "firewall-cmd --runtime-to-permanent".to_owned(),
        ];
    }
    vec![
        "firewall-cmd --get-active-zones".to_owned(),
        "firewall-cmd --list-all-policies".to_owned(),
    ]
}

/// The zone in `filter_IN_public_deny`, `IN_public_allow`, `FWDI_public`.
fn zone(chain: &str) -> Option<&str> {
    let rest = chain.strip_prefix("filter_").unwrap_or(chain);
    let rest = ["IN_", "FWDI_", "FWDO_", "FWD_"]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))?;
    let zone = ["_pre", "_log", "_deny", "_allow", "_post"]
        .iter()
        .find_map(|suffix| rest.strip_suffix(suffix))
        .unwrap_or(rest);
    (!zone.is_empty() && !zone.starts_with("policy_")).then_some(zone)
}

fn docker(fitting: &Fitting) -> Vec<String> {
    if fitting.chain.contains("ISOLATION") {
        vec!["docker network connect <network of the upstream> <container of nginx>".to_owned()]
    } else {
        vec!["docker run --publish <port> … or dial the port that is published".to_owned()]
    }
}

/// `default/app:http has no endpoints`: kube-proxy's own words in the rule's comment.
fn kube_proxy(fitting: &Fitting) -> Vec<String> {
    let service = fitting
        .comment
        .as_deref()
        .or(Some(fitting.text.as_str()))
        .and_then(|words| words.split_once(" has no ")?.0.split_whitespace().last())
        .map(|word| word.trim_matches(|c| c == '"' || c == '\''))
        .and_then(|name| name.split_once('/'));
    match service {
        Some((namespace, name)) => {
            let name = name.split(':').next().unwrap_or(name);
            let label = shell_word(&format!("kubernetes.io/service-name={name}"));
            let namespace = shell_word(namespace);
            vec![
                format!("kubectl -n {namespace} get endpointslices -l {label}"),
                format!(
                    "kubectl -n {namespace} describe service {}",
                    shell_word(name)
                ),
            ]
        }
        None => vec!["kubectl get endpointslices -A".to_owned()],
    }
}

fn fail2ban(fitting: &Fitting, flow: &Flow) -> Vec<String> {
    let banned: SocketAddr = flow.from;
    let in_set = fitting
        .text
        .split_once("addr-set-")
        .or_else(|| fitting.text.split_once("addr6-set-"))
        .and_then(|(_, rest)| rest.split_whitespace().next());
    let jail = fitting
        .chain
        .strip_prefix("f2b-")
        .filter(|rest| *rest != "chain");
    match in_set.or(jail) {
        Some(jail) => vec![format!(
            "fail2ban-client set {} unbanip {}",
            shell_word(jail),
            banned.ip()
        )],
        None => vec![format!("fail2ban-client unban {}", banned.ip())],
    }
}
