//! `wrong-address`: the port is listened on where the SYN arrived, but not for this address.

use crate::case::{Case, Listener};
use crate::diagnose::addresses::{self, Miss};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::{narration, wording};
use crate::verdict::Code;

pub(super) fn wrong_address(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    let misses = misses(case, refusal);
    let (nearest, reason) = *misses.first()?;
    let finding = Finding::new(
        Code::WrongAddress,
        refusal.confidence,
        format!(
            "{} listens, but {}; nginx dialled {}",
            wording::listener(nearest),
            words(reason, refusal),
            wording::dialled(case)
        ),
    )
    .with(narration::translation(case), Finding::because)
    .because(format!(
        "port {} is listened on in {} by {}",
        refusal.target.port(),
        wording::namespace(case, refusal.netns),
        wording::listener(nearest)
    ))
    .rule_out(
        Code::NoListener,
        "the port is listened on, on an address that does not cover the dialled one",
    )
    .with(Some(refusal), evidence::rule_out_by_answer)
    .relies_on_nobody_bound()
    .listener(Some(nearest))
    .candidates(misses.iter().map(|(listener, _)| *listener));
    let reachable = refusal.netns == case.worker.netns || is_reachable(nearest);
    Some(remedy(finding, nearest, reason, refusal, reachable))
}

/// Listeners on the port that do not take the SYN, the likeliest mistake first.
fn misses(case: &Case, refusal: Refusal) -> Vec<(&Listener, Why)> {
    let mut found: Vec<(&Listener, Why)> = case
        .host
        .listeners
        .iter()
        .filter(|listener| listener.netns == refusal.netns)
        .filter(|listener| evidence::listened_then(case, listener))
        .filter(|listener| !is_front_door(case, listener))
        .filter_map(|listener| Some((listener, why(listener, refusal)?)))
        .collect();
    found.sort_by_key(|(listener, why)| (addresses::is_own(case, listener), *why));
    found
}

/// The order is from the surest sign of a mistake to the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Device,
    V6Only,
    Family,
    Address,
}

fn why(listener: &Listener, refusal: Refusal) -> Option<Why> {
    match addresses::miss(listener, refusal.target) {
        Some(Miss::Port) => None,
        Some(Miss::Address) => Some(Why::Address),
        Some(Miss::Family) => Some(Why::Family),
        Some(Miss::V6Only) => Some(Why::V6Only),
        // The address fits and the kernel found no socket: the SYN came by another device.
        None => listener.device.is_some().then_some(Why::Device),
    }
}

/// nginx often serves a port on a public address and proxies the same port of another address.
fn is_front_door(case: &Case, listener: &Listener) -> bool {
    let ip = listener.address.ip();
    addresses::is_own(case, listener) && !addresses::is_loopback(ip) && !ip.is_unspecified()
}

fn words(why: Why, refusal: Refusal) -> String {
    let ip = refusal.target.ip();
    match why {
        Why::Device => "takes only what arrives by that device".to_owned(),
        Why::V6Only => "takes no IPv4".to_owned(),
        Why::Family if ip.is_ipv4() => format!("takes IPv6 and not {ip}"),
        Why::Family => format!("takes IPv4 and not {ip}"),
        Why::Address => format!("not for {ip}"),
    }
}

/// Whether nginx can dial the listener's own address from another namespace.
fn is_reachable(listener: &Listener) -> bool {
    let ip = listener.address.ip();
    !addresses::is_loopback(ip) && !ip.is_unspecified()
}

fn remedy(
    finding: Finding,
    listener: &Listener,
    why: Why,
    refusal: Refusal,
    reachable: bool,
) -> Finding {
    let target = refusal.target;
    let ip = listener.address.ip();
    let dial = if !ip.is_unspecified() {
        listener.address.to_string()
    } else if ip.is_ipv6() {
        format!("[::1]:{}", target.port())
    } else {
        format!("127.0.0.1:{}", target.port())
    };
    let listen = format!("let the backend listen on {target}, or on every address");
    match why {
        Why::Device => finding
            .fix("let the backend listen without SO_BINDTODEVICE, or dial the address of that device from outside"),
        Why::V6Only => finding
            .when(reachable, |finding| finding.fix(format!("nginx.conf: server {dial};")))
            .fix("let the backend clear IPV6_V6ONLY, or listen on 0.0.0.0 as well"),
        Why::Family | Why::Address => finding
            .when(reachable, |finding| finding.fix(format!("nginx.conf: server {dial};")))
            .fix(listen),
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn every_way_to_miss_the_address_is_named() {
        let mut six_only = listener("[::]:9101", OWN, "app");
        six_only.v6only = true;
        let mut tied = listener("0.0.0.0:9101", OWN, "app");
        tied.device = Some("eth1".to_owned());
        for (listener, word) in [
            (listener("127.0.0.2:9101", OWN, "app"), "not for 127.0.0.1"),
            (listener("[::1]:9101", OWN, "app"), "takes IPv6"),
            (six_only, "takes no IPv4"),
            (tied, "by that device"),
        ] {
            let mut case = refused("127.0.0.1:9101", OWN);
            case.host.listeners = vec![listener];
            let verdict = diagnose(&case).verdict;
            assert_eq!(
                (verdict.code, verdict.confidence),
                (Code::WrongAddress, Confidence::Certain)
            );
            assert!(verdict.summary.contains(word), "{}", verdict.summary);
        }
    }

    #[test]
    fn another_port_or_another_namespace_is_not_another_address() {
        let mut case = refused("10.0.0.1:9101", OWN);
        case.host.listeners = vec![
            listener("127.0.0.1:5000", OWN, "agent"),
            listener("127.0.0.1:9101", OTHER, "app"),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn the_public_side_of_nginx_itself_is_not_the_backend() {
        let mut case = refused("127.0.0.1:8080", OWN);
        let mut front = listener("192.0.2.1:8080", OWN, "nginx");
        front.owners[0].pid = case.worker.pid;
        case.host.listeners = vec![front];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn nginx_is_not_told_to_dial_the_loopback_of_another_namespace() {
        let mut case = refused("10.99.1.2:9101", OTHER);
        case.host.listeners = vec![listener("127.0.0.1:9101", OTHER, "app")];
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.code, Code::WrongAddress);
        assert!(
            verdict.fix.iter().all(|step| !step.contains("server ")),
            "{:?}",
            verdict.fix
        );
        let mut case = refused("10.99.1.2:9101", OWN);
        case.host.listeners = vec![listener("127.0.0.1:9101", OWN, "app")];
        assert_eq!(
            diagnose(&case).verdict.fix[0],
            "nginx.conf: server 127.0.0.1:9101;"
        );
    }
}
