//! What looks like a rule's doing and is not, and the reverse.

use anyhow::Result;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::nft;
use whyrefused_tests::scene::{Scene, case, config_of, refused, timed_out};

use super::{ONCE_REPEATED, both, host_with_nft};

/// Every rule here lets the SYN to the closed ports pass, some of them only just.
#[test]
fn a_closed_port_behind_rules_that_nearly_match_is_no_listener() -> Result<()> {
    const RULESET: &str = "table inet lab {
set nearly { type ipv4_addr . inet_service; flags interval
  elements = { 127.0.0.2-127.0.0.9 . 27100, 127.0.0.1 . 27103-27110 } }
chain input { type filter hook input priority 0
  tcp dport 27100 tcp sport 1-1023 reject with tcp reset
  ip daddr . tcp dport @nearly reject with tcp reset
  tcp dport 27100 log prefix \"seen \"
  tcp dport 27100 counter
  tcp dport 27100 ct state established reject with tcp reset
  tcp dport 27100 tcp flags syn,ack / syn,ack reject with tcp reset
  udp dport 27100 reject
  tcp dport 27100 accept
  tcp dport 27100 reject with tcp reset
}
}
table ip six { chain input { type filter hook input priority 1
  tcp dport 27101 drop
}
}
table ip6 six { chain input { type filter hook input priority 1
  tcp dport 27102 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    here.nft(RULESET)?;
    let closed = refused("no-listener");
    let mut cases = both("nearly", 27100, &closed).to_vec();
    cases.push(super::six("other-family", 27101, &closed));
    cases.push(super::four("other-family", 27102, &closed));
    let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
    scene.all_fail(&cases)?;
    scene.end().map(drop)
}

#[test]
fn a_drop_is_told_from_a_full_accept_queue_and_from_a_closed_port() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0
  tcp dport 27121 tcp flags fin drop
  tcp dport 27120 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _healthy = Backend::listen(&here, "127.0.0.1:27120")?;
    let _stuck = Backend::start(
        &here,
        &["tcp", "--never-accept", "--backlog", "0", "127.0.0.1:27121"],
    )?;
    here.nft(RULESET)?;
    let rule = nft("inet lab input", "input", "27120");
    let cases = [
        case(
            "dropped",
            "127.0.0.1:27120",
            timed_out("firewall-drop").by(rule),
        ),
        case("closed", "127.0.0.1:27122", refused("no-listener")),
    ];
    let full = case("full", "127.0.0.1:27121", timed_out("accept-queue-full"));
    let all = [&cases[..], std::slice::from_ref(&full)].concat();
    let mut scene = Scene::filtered(
        &host,
        here,
        &[],
        &config_of(&all).connect_timeout(ONCE_REPEATED),
    )?;
    // One waits in the queue, and no more find room.
    let _waiting = [(); 2].map(|()| scene.nginx.send(&scene.namespace, "full"));
    whyrefused_tests::patience::wait_for("a full queue", whyrefused_tests::patience::SOON, || {
        let sockets = whyrefused_tests::sockets::list(&scene.namespace)?;
        let held = sockets.iter().any(|socket| {
            socket.remote_port == 27121 && socket.state == whyrefused_tests::sockets::SYN_SENT
        });
        Ok(held.then_some(()))
    })?;
    scene.all_fail(&cases)?;
    scene.explained("full", &full.expected)?;
    Ok(())
}

/// The same ruleset in a namespace that the packets do not pass.
#[test]
fn a_rule_of_a_namespace_aside_is_not_blamed() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0
  tcp dport 27140 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, aside) = (Namespace::new()?, Namespace::new()?);
    aside.nft(RULESET)?;
    let cases = both("app", 27140, &refused("no-listener"));
    let mut scene = Scene::filtered(&host, here, &[&aside], &config_of(&cases))?;
    scene.all_fail(&cases)?;
    scene.end().map(drop)
}
