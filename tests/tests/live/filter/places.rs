//! The filter of nginx's namespace, of the backend's, or of a router between them; for the SYN
//! and for its answer.

use anyhow::Result;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::{Culprit, nft};
use whyrefused_tests::scene::{Case, case, refused, reported, timed_out};

use super::{ONCE_REPEATED, blocked, host_with_nft, listeners};

/// nginx's namespace, a router and the backend's namespace.
struct Road {
    here: Namespace,
    router: Namespace,
    there: Namespace,
}

const FOUR: &str = "10.72.0.2";
const SIX: &str = "[fd72::2]";

impl Road {
    fn build() -> Result<Self> {
        let (here, router, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        for namespace in [&here, &router, &there] {
            // A router asks for a neighbour from its link-local address, which must not be
            // tentative (`ndisc_send_ns`).
            namespace.sysctl("ipv6/conf/default/accept_dad", "0")?;
        }
        here.link(
            ("wan0", &["10.71.0.1/24", "fd71::1/64"]),
            &router,
            ("lan0", &["10.71.0.254/24", "fd71::fe/64"]),
        )?;
        router.link(
            ("lan1", &["10.72.0.254/24", "fd72::fe/64"]),
            &there,
            ("eth0", &["10.72.0.2/24", "fd72::2/64"]),
        )?;
        router.forward()?;
        here.ip("route add default via 10.71.0.254")?;
        here.ip6("route add default via fd71::fe")?;
        there.ip("route add default via 10.72.0.254")?;
        there.ip6("route add default via fd72::fe")?;
        Ok(Self {
            here,
            router,
            there,
        })
    }
}

/// A case for each family, at the backend's addresses.
fn both(name: &str, port: u16, expected: &whyrefused_tests::scene::Expected) -> [Case; 2] {
    [("four", FOUR), ("six", SIX)].map(|(family, host)| {
        case(
            &format!("{name}-{family}"),
            &format!("{host}:{port}"),
            expected.clone(),
        )
    })
}

fn rule(chain: &'static str, port: u16) -> Culprit {
    nft(
        &format!("inet lab {chain}"),
        chain,
        &format!("dport {port}"),
    )
}

fn answer(chain: &'static str, port: u16) -> Culprit {
    nft(
        &format!("inet lab {chain}"),
        chain,
        &format!("sport {port} tcp flags"),
    )
}

#[test]
fn a_rule_of_any_namespace_on_the_way_is_named() -> Result<()> {
    const HERE: &str = "table inet lab {
chain output { type filter hook output priority 0
  oifname \"lo\" tcp dport 26705 drop
  oifname \"wan0\" tcp dport 26705 drop
}
chain input { type filter hook input priority 0
  tcp sport 26708 tcp flags rst drop
  tcp sport 26708 ct state invalid drop
  iifname \"wan0\" tcp sport 26708 tcp flags syn,ack / syn,ack drop
}
}";
    const ROUTER: &str = "table inet lab {
chain prerouting { type filter hook prerouting priority 0
  tcp dport 26701 drop
}
chain forward { type filter hook forward priority 0; policy drop
  iifname \"lan1\" oifname \"lan0\" tcp dport 26700 drop
  iifname \"lan0\" oifname \"lan1\" tcp dport 26700 drop
  tcp sport 26707 tcp flags syn,ack / syn,ack drop
  tcp dport 26709 reject with tcp reset
  tcp dport 26711 reject with icmpx admin-prohibited
  tcp dport != 26712 accept
}
chain postrouting { type filter hook postrouting priority 0
  tcp dport 26702 drop
}
chain input { type filter hook input priority 0
  tcp dport 26700-26719 drop
}
}";
    const THERE: &str = "table inet lab {
chain prerouting { type filter hook prerouting priority 0
  tcp dport 26704 drop
}
chain input { type filter hook input priority 0
  tcp dport 26703 drop
  ip saddr 10.72.0.0/24 tcp dport 26710 drop
  tcp dport 26710 reject with tcp reset
}
chain output { type filter hook output priority 0
  tcp sport 26706 tcp flags syn,ack / syn,ack drop
}
chain forward { type filter hook forward priority 0
  drop
}
}";
    const ASIDE: &str = "table inet lab {
chain input { type filter hook input priority 0
  tcp dport 26700-26719 drop
}
chain forward { type filter hook forward priority 0; policy drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let Road {
        here,
        router,
        there,
    } = Road::build()?;
    // It has the backend's addresses, and lies on no way.
    let aside = Namespace::new()?;
    aside.address("lo", &["10.72.0.2/32", "fd72::2/128"])?;
    aside.nft(ASIDE)?;
    here.nft(HERE)?;
    router.nft(ROUTER)?;
    there.nft(THERE)?;
    let drop = |rule| timed_out("firewall-drop").by(rule);
    let reset = |rule| refused("firewall-reject").by(rule);
    let forward = |telling| nft("inet lab forward", "forward", telling).at(&router);
    let cases: Vec<Case> = [
        both("router", 26700, &drop(forward("\"lan0\" oifname"))),
        both(
            "before-router",
            26701,
            &drop(rule("prerouting", 26701).at(&router)),
        ),
        both(
            "after-router",
            26702,
            &drop(rule("postrouting", 26702).at(&router)),
        ),
        both("there", 26703, &drop(rule("input", 26703).at(&there))),
        both(
            "before-there",
            26704,
            &drop(rule("prerouting", 26704).at(&there)),
        ),
        both(
            "here",
            26705,
            &drop(nft("inet lab output", "output", "wan0")),
        ),
        both(
            "answer-there",
            26706,
            &drop(answer("output", 26706).at(&there)),
        ),
        both(
            "answer-router",
            26707,
            &drop(answer("forward", 26707).at(&router)),
        ),
        both(
            "answer-here",
            26708,
            &drop(nft("inet lab input", "input", "wan0")),
        ),
        both("reset-router", 26709, &reset(forward("26709"))),
        both(
            "reset-there",
            26710,
            &reset(nft("inet lab input", "input", "26710 reject").at(&there)),
        ),
        both("policy", 26712, &drop(forward("").policy())),
    ]
    .concat();
    let _backend = listeners(&there, &cases, "10.72.0.2:26719")?;
    let others = [&router, &there];
    blocked(
        &host,
        here,
        &others,
        "10.72.0.2:26719",
        ONCE_REPEATED,
        &cases,
    )
}

#[test]
fn an_icmp_error_of_a_routers_rule_is_told_from_one_of_its_routes() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let Road {
        here,
        router,
        there,
    } = Road::build()?;
    router.nft(
        "table ip lab {
chain forward { type filter hook forward priority 0
  tcp dport 26720 tcp sport 1-1023 reject with icmp admin-prohibited
  tcp dport 26720 reject with icmp admin-prohibited
  ip daddr 10.73.0.2 reject with icmp admin-prohibited
}
}",
    )?;
    router.ip("route add prohibit 10.73.0.0/24")?;
    let rule = nft(
        "ip lab forward",
        "forward",
        "<tcp dport 26720 reject with icmp admin-prohibited>",
    );
    let by_rule = reported("firewall-reject", "EHOSTUNREACH").by(rule.at(&router));
    let by_route = reported("icmp-unreachable", "EHOSTUNREACH");
    let cases = [
        case("rule", "10.72.0.2:26720", by_rule),
        case("route", "10.73.0.2:26721", by_route),
    ];
    let _backend = Backend::start(&there, &["tcp", "10.72.0.2:26720", "10.72.0.2:26729"])?;
    blocked(
        &host,
        here,
        &[&router],
        "10.72.0.2:26729",
        ONCE_REPEATED,
        &cases,
    )
}

#[test]
fn a_rule_of_a_bridge_between_is_named() -> Result<()> {
    const BRIDGE: &str = "table bridge lab {
chain prerouting { type filter hook prerouting priority 0
  ip saddr 10.74.0.2 tcp dport 26731 drop
  ip daddr 10.74.0.2 tcp dport 26731 drop
}
chain forward { type filter hook forward priority 0
  iifname \"port1\" tcp dport 26730 drop
  iifname \"port0\" ip daddr 10.74.0.0/24 tcp dport 26730 drop
  iifname \"port0\" ip6 daddr fd74::/64 tcp dport 26730 drop
}
}
table inet lab {
chain forward { type filter hook forward priority 0
  tcp dport 26730 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, bridge, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    here.link(
        ("eth0", &["10.74.0.1/24", "fd74::1/64"]),
        &bridge,
        ("port0", &[]),
    )?;
    there.link(
        ("eth0", &["10.74.0.2/24", "fd74::2/64"]),
        &bridge,
        ("port1", &[]),
    )?;
    bridge.ip("link add br0 type bridge
link set port0 master br0
link set port1 master br0
link set br0 up")?;
    bridge.nft(BRIDGE)?;
    let drop = |chain: &'static str, telling: &str| {
        let rule = nft(&format!("bridge lab {chain}"), chain, telling);
        timed_out("firewall-drop").by(rule.at(&bridge))
    };
    let cases = [
        case("four", "10.74.0.2:26730", drop("forward", "#2")),
        case("six", "[fd74::2]:26730", drop("forward", "#3")),
        case("before", "10.74.0.2:26731", drop("prerouting", "ip daddr")),
    ];
    let _backend = listeners(&there, &cases, "10.74.0.2:26739")?;
    blocked(
        &host,
        here,
        &[&bridge],
        "10.74.0.2:26739",
        ONCE_REPEATED,
        &cases,
    )
}
