//! What a rule of nftables can ask of a packet: each rule with one beside it that asks for a
//! little more than the packet has.

use anyhow::Result;
use whyrefused_tests::host::worker_user;
use whyrefused_tests::ruleset::nft;
use whyrefused_tests::scene::{Case, refused};

use super::{ONCE_REPEATED, blocked_here, both, four, host_with_nft, six};

/// The rule that `telling` tells from the others of the chain `chain`.
fn reset(chain: &str, telling: &str) -> whyrefused_tests::scene::Expected {
    let rule = nft(&format!("inet lab {chain}"), "output", telling);
    refused("firewall-reject").by(rule)
}

#[test]
fn rules_that_look_things_up_in_sets_and_maps_are_named() -> Result<()> {
    const RULESET: &str = "table inet lab {
set ports { type inet_service; elements = { 26200, 26290 } }
set other { type inet_service; elements = { 26291 } }
set ranges { type inet_service; flags interval; elements = { 26201-26202 } }
set around { type inet_service; flags interval; elements = { 26190-26200, 26203-26210 } }
set pairs { type ipv4_addr . inet_service; flags interval; elements = { 127.0.0.0/8 . 26205-26206 } }
set nearly { type ipv4_addr . inet_service; flags interval
  elements = { 10.0.0.0/8 . 26205-26206, 127.0.0.0/8 . 1-5, 127.0.0.2-127.0.0.9 . 26205 } }
set hosts { type ipv6_addr; flags interval; elements = { ::1, fd00::/8 } }
set seen { type inet_service; flags dynamic; timeout 1m; }
map ways { type inet_service : verdict; elements = { 26207 : jump seven, 26208 : goto eight, 26209 : drop } }
map marks { type inet_service : mark; elements = { 26211 : 0x7, 26212 : 0x8 } }
counter hits { }
chain seven { ip daddr 10.0.0.0/8 reject with tcp reset; tcp dport 26207 reject with tcp reset; }
chain eight { tcp sport 1-1023 reject with tcp reset; counter reject with tcp reset; }
chain output { type filter hook output priority 0
  tcp dport @other reject with tcp reset
  tcp dport @ports reject with tcp reset
  tcp dport @around tcp sport @around reject with tcp reset
  tcp dport @ranges reject with tcp reset
  ip daddr { 10.0.0.0/8, 127.0.0.2 } tcp dport { 26203, 26204 } reject with tcp reset
  ip6 daddr { fe80::/10, ::2 } tcp dport { 26203, 26204 } reject with tcp reset
  ip daddr . tcp dport { 127.0.0.2 . 26203, 127.0.0.1 . 26203 } reject with tcp reset
  ip6 daddr @hosts tcp dport { 26203, 26299 } reject with tcp reset
  ip daddr . tcp dport @nearly reject with tcp reset
  ip daddr . tcp dport @pairs reject with tcp reset
  tcp dport != { 26207, 26208, 26209 } tcp dport vmap { 26207 : drop, 26208 : drop }
  ip daddr 127.0.0.1 tcp dport vmap @ways
  meta mark set tcp dport map @marks
  meta mark 0x9 tcp dport 26211 reject with tcp reset
  meta mark 0x7 tcp dport 26211 reject with tcp reset
  meta mark & 0xc == 0x8 tcp dport 26212 reject with tcp reset
  tcp dport 26213 add @seen { tcp dport } reject with tcp reset
  tcp dport 26214 counter name hits reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let at = |telling| reset("output", telling);
    let cases: Vec<Case> = [
        both("set", 26200, &at("@ports")).to_vec(),
        both("ranges", 26202, &at("@ranges")).to_vec(),
        vec![
            four("concatenation", 26203, &at("127.0.0.1 . 26203")),
            six("hosts", 26203, &at("@hosts")),
            four("pairs", 26205, &at("@pairs")),
            four("jump", 26207, &reset("seven", "26207")),
            four("goto", 26208, &reset("eight", "counter")),
        ],
        both("map", 26211, &at("0x00000007")).to_vec(),
        both("mask", 26212, &at("0x0000000c")).to_vec(),
        both("update", 26213, &at("@seen")).to_vec(),
        both("named-counter", 26214, &at("hits")).to_vec(),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:26219", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn rules_behind_jumps_are_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    // The deepest chain must be there before the others can jump to it.
    let mut deep = "chain deep10 { tcp dport 26221 accept; tcp dport 26220 reject with tcp reset; }
"
    .to_owned();
    for level in (1..10).rev() {
        deep += &format!(
            "chain deep{level} {{ udp dport 26220 drop; jump deep{next}; tcp dport 26220 drop; }}\n",
            next = level + 1
        );
    }
    let ruleset = format!(
        "table inet lab {{
{deep}
chain back {{ tcp sport 0-65535 return; tcp dport 26222 drop; }}
chain away {{ ip daddr 10.0.0.1 drop; ip6 daddr fe80::1 drop; }}
chain output {{ type filter hook output priority 0
  tcp dport {{ 26220, 26221 }} jump deep1
  tcp dport 26222 jump back
  tcp dport 26222 reject with tcp reset
  tcp dport 26223 goto away
  tcp dport 26223 drop
  tcp dport 26224 accept
  tcp dport 26224 drop
}}
chain later {{ type filter hook output priority 1
  tcp dport {{ 26222, 26223, 26224 }} counter reject with tcp reset
}}
}}"
    );
    let later = reset("later", "26223");
    let cases = [
        both("deep", 26220, &reset("deep10", "26220")),
        both("return", 26222, &reset("output", "26222 reject")),
        both("goto", 26223, &later),
        both("accepted-before", 26224, &later),
    ]
    .concat();
    // A jump that deep must also let through.
    blocked_here(&host, "127.0.0.1:26221", ONCE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}

#[test]
fn rules_that_ask_for_circumstances_are_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let user = worker_user()?;
    let ruleset = format!(
        "table inet lab {{
chain mangle {{ type route hook output priority mangle
  tcp dport 26242 meta mark set 0x10
  tcp dport 26243 ct mark set 0x5
}}
chain output {{ type filter hook output priority 0
  tcp dport 26240 meta skuid 0 reject with tcp reset
  tcp dport 26240 meta skuid {uid} reject with tcp reset
  tcp dport 26241 meta skgid {gid} reject with tcp reset
  tcp dport 26242 meta mark 0x11 reject with tcp reset
  tcp dport 26242 meta mark 0x10 reject with tcp reset
  tcp dport 26243 ct mark 0x4 reject with tcp reset
  tcp dport 26243 ct mark 0x5 reject with tcp reset
  tcp dport 26244 ct state established,related,invalid reject with tcp reset
  tcp dport 26244 ct state new reject with tcp reset
  tcp dport 26245 ct count over 0 reject with tcp reset
  tcp dport 26246 oifname \"eth0\" reject with tcp reset
  tcp dport 26246 oifname \"l*\" reject with tcp reset
  tcp dport 26247 fib daddr type != local reject with tcp reset
  tcp dport 26247 fib daddr type local reject with tcp reset
  tcp dport 26248 tcp flags & (fin | syn | rst | ack) == syn | ack reject with tcp reset
  tcp dport 26248 tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset
  tcp dport 26249 log prefix \"seen \"
  tcp dport 26249 log prefix \"refused \" reject with tcp reset
  tcp dport 26250 tcp option maxseg size 1-65535 reject with tcp reset
  tcp dport 26251 numgen inc mod 1 == 0 reject with tcp reset
  tcp dport 26252-26259 tcp sport 32768-60999 reject with tcp reset
  @th,16,16 26260 reject with tcp reset
  meta l4proto udp th dport 26261 drop
  meta l4proto tcp th dport 26261 reject with tcp reset
  ip daddr 127.0.0.1 ip ttl 64 tcp dport 26262 reject with tcp reset
  ip6 daddr ::1 ip6 hoplimit 64 tcp dport 26262 reject with tcp reset
  ct direction reply tcp dport 26263 drop
  ct direction original tcp dport 26263 reject with tcp reset
  tcp dport 26264 socket transparent 1 drop
  tcp dport 26264 meta cpu 4000 drop
  tcp dport 26264 meta pkttype multicast drop
  tcp dport 26264 counter reject with tcp reset
}}
}}",
        uid = user.uid,
        gid = user.gid,
    );
    let mut cases: Vec<Case> = Vec::new();
    for (name, port, telling) in [
        ("skgid", 26241, "26241"),
        ("mark", 26242, "0x00000010"),
        ("ct-mark", 26243, "0x00000005"),
        ("ct-state", 26244, "ct state new"),
        ("ct-count", 26245, "26245"),
        ("device", 26246, "\"l*\""),
        ("route", 26247, "fib daddr type local"),
        ("flags", 26248, "26248*syn / fin"),
        ("log", 26249, "refused"),
        ("option", 26250, "26250"),
        ("numgen", 26251, "26251"),
        ("ports", 26253, "26252-26259"),
        ("raw", 26260, "26260"),
        ("protocol", 26261, "26261 reject"),
        ("direction", 26263, "original"),
    ] {
        cases.extend(both(name, port, &reset("output", telling)));
    }
    let uid = format!("26240 meta skuid {} reject", user.uid);
    cases.extend(both("skuid", 26240, &reset("output", &uid)));
    cases.push(four("ttl", 26262, &reset("output", "ip ttl")));
    cases.push(six("ttl", 26262, &reset("output", "ip6 hoplimit")));
    cases.extend(both("doubtful", 26264, &reset("output", "26264 counter")));
    blocked_here(&host, "127.0.0.1:26269", ONCE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}
