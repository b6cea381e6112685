//! What the receiving socket itself drops.

use super::{Dropped, Eater};
use crate::case::Case;
use crate::diagnose::{addresses, programs, wording};

/// `sk_filter_trim_cap` runs the socket's own filter and the programs of its cgroup, and gives one
/// reason for both.
pub(super) fn filter<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Eater<'a> {
    let found = programs::of_cgroups(case, &["cgroup_inet_ingress"]);
    let port = dropped.segment.to.port();
    let filters =
        wording::in_namespace(case, dropped.netns, &format!("ss -ltneb 'sport = :{port}'"));
    let remedies = vec![filters, "bpftool cgroup tree".to_owned()];
    let receiver_is_known = dropped.answer
        || addresses::covering_listener(case, Some(dropped.netns))
            .is_some_and(|listener| !listener.owners.is_empty());
    if found.is_empty() && receiver_is_known {
        return Eater {
            words: "a filter of the socket itself (SO_ATTACH_FILTER or SO_ATTACH_BPF)".to_owned(),
            programs: None,
            because: vec![
                "no cgroup program on ingress was found for the receiving process".to_owned(),
            ],
            remedies,
        };
    }
    Eater::program(
        "a cgroup BPF program on ingress or a filter of the socket itself",
        found,
        remedies,
    )
}

/// Newer kernels give each check that a socket makes a reason of its own.
pub(super) fn check<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Eater<'a> {
    let port = dropped.segment.to.port();
    let own = |command: &str| wording::in_namespace(case, dropped.netns, command);
    let remedies = vec![
        "bpftool cgroup tree".to_owned(),
        own(&format!("ss -ltnebi 'sport = :{port}'")),
        own("nstat -az 'TcpExtTCPMD5*' TcpExtTCPMinTTLDrop TcpExtTCPBacklogDrop TcpInCsumErrors"),
    ];
    let found = programs::of_cgroups(case, &["cgroup_inet_ingress"]);
    if !found.is_empty() {
        return Eater::program("a cgroup BPF program on ingress", found, remedies);
    }
    Eater {
        words: "a check of the receiving socket: it asks for TCP MD5 signatures (TCP_MD5SIG) or a time to live (IP_MINTTL) that the packet lacks, has a filter (SO_ATTACH_FILTER), is full, or an IPsec policy or the checksum forbids".to_owned(),
        programs: None,
        because: vec!["no cgroup program on ingress was found for the receiving process".to_owned()],
        remedies,
    }
}
