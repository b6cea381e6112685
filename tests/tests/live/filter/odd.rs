//! Rules of kinds that are seldom met.

use anyhow::Result;
use whyrefused_tests::ruleset::nft;
use whyrefused_tests::scene::{refused, timed_out};

use super::{ONCE_REPEATED, blocked_here, both, four, host_with_nft, six};

#[test]
fn rules_of_seldom_kinds_are_named() -> Result<()> {
    const RULESET: &str = "table inet lab {
set blocked { type ipv4_addr; flags interval; auto-merge; counter; elements = { 127.0.0.0/30 } }
map verdicts { type ipv4_addr . inet_service : verdict; flags interval
  elements = { 127.0.0.0/8 . 27700 : drop, 10.0.0.0/8 . 27701 : accept, 127.0.0.1 . 27701 : jump far }
}
chain far { meta l4proto vmap { udp : drop, tcp : goto farther }; }
chain farther { tcp dport vmap { 1-1000 : accept, 27701 : drop, * : accept }; }
chain output { type filter hook output priority -5
  ip daddr . tcp dport vmap @verdicts
  ip daddr @blocked tcp dport 27702 reject with tcp reset
  meta l4proto tcp meta length 1-2000 tcp dport 27703 reject with tcp reset
  tcp dport 27704 tcp window 1-65535 reject with tcp reset
  tcp dport 27705 @th,106,6 & 0x2 == 0x2 reject with tcp reset
  tcp dport & 0xffff == 27706 reject with tcp reset
  tcp dport 27707 meta oif \"lo\" meta oiftype loopback reject with tcp reset
  ip protocol tcp ip dscp 0 ip frag-off & 0x1fff == 0 tcp dport 27708 reject with tcp reset
  ip6 nexthdr tcp ip6 flowlabel 0 tcp dport 27708 drop
  tcp dport 27708 reject with tcp reset
  tcp dport 27709 ct mark set meta mark or 0x3 ct mark & 0x2 == 0x2 reject with tcp reset
  tcp dport 27710 quota over 1 bytes reject with tcp reset
  tcp dport 27711 meta hour \"00:00\"-\"23:59:59\" reject with tcp reset
  tcp dport 27711 reject with tcp reset
  tcp dport 27712 fib daddr . oif type local reject with tcp reset
  tcp dport 27713 ct original proto-dst 27713 reject with tcp reset
  tcp sport . tcp dport { 1-65535 . 27714 } reject with tcp reset
  meta mark . tcp dport vmap { 0x0 . 27715 : drop }
  tcp dport 27716 numgen random mod 2 vmap { 0 : drop, 1 : drop }
  tcp dport { 27717 } ip saddr != { 10.0.0.0/8 } tcp flags != ack tcp doff 5-15 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let at = |chain: &str, telling: &str| nft(&format!("inet lab {chain}"), "output", telling);
    let drop = |rule| timed_out("firewall-drop").by(rule);
    let reset = |telling| refused("firewall-reject").by(at("output", telling));
    // Nobody tells what kind of service the packet asked for.
    let header = refused("firewall-reject").by(at("output", "dscp").or(1));
    let mut cases = vec![
        four("verdict-map", 27700, &drop(at("output", "@verdicts"))),
        four("nested-map", 27701, &drop(at("farther", "27701"))),
        four("counted-set", 27702, &reset("@blocked")),
        four("header", 27708, &header),
        four("sources", 27717, &reset("doff")),
    ];
    for (name, port, telling) in [
        ("length", 27703, "27703"),
        ("window", 27704, "27704"),
        ("bits", 27705, "27705"),
        ("masked-port", 27706, "27706"),
        ("device-type", 27707, "27707"),
        ("mark-set", 27709, "27709"),
        ("quota", 27710, "27710"),
        ("route-type", 27712, "27712"),
        ("original", 27713, "27713"),
        ("ports", 27714, "27714"),
    ] {
        cases.extend(both(name, port, &reset(telling)));
    }
    cases.extend(both("mark-map", 27715, &drop(at("output", "27715"))));
    cases.extend(both("random-map", 27716, &drop(at("output", "27716"))));
    cases.push(six(
        "flowlabel",
        27708,
        &reset("<tcp dport 27708 reject with tcp reset>"),
    ));
    blocked_here(&host, "127.0.0.1:27719", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}
