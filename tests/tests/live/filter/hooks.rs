//! Every hook and every family of nftables, for the SYN and for its answer.

use anyhow::Result;
use whyrefused_tests::host::skip;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::{Culprit, nft};
use whyrefused_tests::scene::{Case, refused, timed_out};

use super::{ONCE_REPEATED, blocked_here, both, four, host_with_nft, six};

/// Hooks of the family `inet` with the chain's head for each.
const HOOKS: [(&str, &str); 5] = [
    ("prerouting", "type filter hook prerouting priority raw"),
    ("input", "type filter hook input priority filter"),
    ("output", "type filter hook output priority filter"),
    (
        "postrouting",
        "type filter hook postrouting priority srcnat",
    ),
    ("ingress", "type filter hook ingress device lo priority 0"),
];

/// A chain at each of the hooks with the rules that `rules` gives for its place in the list.
fn inet(rules: impl Fn(u16) -> String) -> String {
    let chains: String = (0..)
        .zip(HOOKS)
        .map(|(place, (hook, head))| format!("chain {hook} {{\n{head}\n{}\n}}\n", rules(place)))
        .collect();
    format!("table inet lab {{\n{chains}}}\n")
}

fn at(hook: &'static str, telling: &str) -> Culprit {
    nft(&format!("inet lab {hook}"), hook, telling)
}

#[test]
fn a_drop_at_any_hook_of_inet_is_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let ruleset = inet(|place| {
        let port = 26000 + place;
        format!(
            "tcp dport {port} tcp sport 1-1023 drop
udp dport {port} drop
tcp dport {port} drop
tcp dport {port} counter drop"
        )
    });
    let cases: Vec<Case> = (26000..)
        .zip(HOOKS)
        .flat_map(|(port, (hook, _))| {
            let rule = at(hook, "");
            let rule = Culprit {
                telling: Some(format!("<tcp dport {port} drop>")),
                ..rule
            };
            both(hook, port, &timed_out("firewall-drop").by(rule))
        })
        .collect();
    blocked_here(&host, "127.0.0.1:26009", ONCE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}

#[test]
fn a_reset_at_any_hook_of_inet_is_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let ruleset = inet(|place| match HOOKS[usize::from(place)].0 {
        "postrouting" => String::new(),
        _ => format!(
            "ip daddr 127.0.0.2 tcp dport {port} drop
tcp dport {port} reject with tcp reset
accept",
            port = 26020 + place
        ),
    });
    let cases: Vec<Case> = (26020..)
        .zip(HOOKS)
        .filter(|(_, (hook, _))| *hook != "postrouting")
        .flat_map(|(port, (hook, _))| {
            let rule = at(hook, "reject");
            both(hook, port, &refused("firewall-reject").by(rule))
        })
        .collect();
    blocked_here(&host, "127.0.0.1:26029", ONCE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}

#[test]
fn a_drop_of_the_answer_at_any_hook_is_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let ruleset = inet(|place| {
        format!(
            "tcp sport {port} tcp flags syn / syn,ack drop
tcp dport {port} tcp flags syn,ack / syn,ack drop
tcp sport {port} tcp flags syn,ack / syn,ack drop",
            port = 26040 + place
        )
    });
    let cases: Vec<Case> = (26040..)
        .zip(HOOKS)
        .flat_map(|(port, (hook, _))| {
            let telling = format!("tcp sport {port} tcp flags syn,ack / syn,ack drop");
            both(
                hook,
                port,
                &timed_out("firewall-drop").by(at(hook, &telling)),
            )
        })
        .collect();
    blocked_here(&host, "127.0.0.1:26049", ONCE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}

#[test]
fn a_rule_of_any_family_is_named() -> Result<()> {
    const RULESET: &str = "
table netdev lab {
  chain in { type filter hook ingress device lo priority 0
    meta protocol ip6 tcp dport 26060 accept
    tcp dport 26060 drop
    tcp dport 26061 reject with tcp reset
  }
  chain out { type filter hook egress device lo priority 0
    ip saddr 127.0.0.9 tcp dport 26062 drop
    tcp dport 26062 drop
  }
}
table ip lab {
  chain input { type filter hook input priority 0
    ip daddr 127.0.0.0/30 tcp dport 26064 reject with tcp reset
    tcp dport 26065 drop
  }
  chain output { type filter hook output priority 10
    tcp dport 26066 drop
  }
}
table ip6 lab {
  chain input { type filter hook input priority 0
    ip6 daddr ::1 tcp dport 26064 reject with tcp reset
    tcp dport 26065 drop
  }
  chain output { type route hook output priority 10
    tcp dport 26066 drop
  }
}
table ip6 other {
  chain input { type filter hook input priority -5
    ip6 daddr ::2 tcp dport { 26064, 26065 } drop
  }
}
";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    // Since 5.10 the one, as a module that not every kernel has, and since 5.16 the other.
    const LATE: &str = "
table netdev lab {
  chain in { type filter hook ingress device lo priority 0; reject; }
  chain out { type filter hook egress device lo priority 0; }
}
";
    if let Err(reason) = Namespace::new()?.nft(LATE) {
        skip(&format!(
            "this kernel takes no such rules of netdev: {reason}"
        ));
        return Ok(());
    }
    let drop = |rule| timed_out("firewall-drop").by(rule);
    let reset = |rule| refused("firewall-reject").by(rule);
    let cases = [
        four(
            "netdev-in",
            26060,
            &drop(nft("netdev lab in", "ingress", "26060 drop")),
        ),
        six(
            "netdev-reset",
            26061,
            &reset(nft("netdev lab in", "ingress", "reject")),
        ),
        // The reset comes back as a martian, for nothing has routed it (nft_reject_netdev).
        four(
            "netdev-reset",
            26061,
            &timed_out("firewall-reject").by(nft("netdev lab in", "ingress", "reject")),
        ),
        four(
            "netdev-out",
            26062,
            &drop(nft("netdev lab out", "egress", "<tcp dport 26062 drop>")),
        ),
        six(
            "netdev-out",
            26062,
            &drop(nft("netdev lab out", "egress", "<tcp dport 26062 drop>")),
        ),
        four(
            "reset",
            26064,
            &reset(nft("ip lab input", "input", "26064")),
        ),
        six(
            "reset",
            26064,
            &reset(nft("ip6 lab input", "input", "26064")),
        ),
        four("in", 26065, &drop(nft("ip lab input", "input", "26065"))),
        six("in", 26065, &drop(nft("ip6 lab input", "input", "26065"))),
        four("out", 26066, &drop(nft("ip lab output", "output", "26066"))),
        six(
            "out",
            26066,
            &drop(nft("ip6 lab output", "output", "26066")),
        ),
    ];
    blocked_here(&host, "[::1]:26069", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}
