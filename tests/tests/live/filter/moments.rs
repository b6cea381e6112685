//! A rule that stops some packets of an attempt and not others, and what nginx then sees.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::patience::SOON;
use whyrefused_tests::ruleset::nft;
use whyrefused_tests::scene::{Scene, aborted, case, config_of, refused, timed_out};

use super::{ANSWERED_LATE, ONCE_REPEATED, blocked_here, four, host_with_nft, listeners, six};

#[test]
fn a_syn_that_is_let_through_the_second_time_is_judged_by_its_end() -> Result<()> {
    // The first SYN meets 0, the repeated one 1.
    const RULESET: &str = "table inet lab { chain output { type filter hook output priority 0
  tcp dport 27600 tcp flags syn / syn,ack numgen inc mod 2 == 0 drop
  tcp dport 27601 tcp flags syn / syn,ack numgen inc mod 2 == 0 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let cases = [
        four("late", 27600, &refused("no-listener")),
        four("closed", 27601, &refused("no-listener")),
    ];
    let _backend = Backend::listen(&here, "127.0.0.1:27600")?;
    here.nft(RULESET)?;
    let config = config_of(&cases).connect_timeout(ANSWERED_LATE);
    let mut scene = Scene::filtered(&host, here, &[], &config)?;
    scene.succeeds("late-four")?;
    scene.all_fail(&cases[1..])?;
    scene.end().map(drop)
}

#[test]
fn an_answer_that_connection_tracking_does_not_know_is_dropped_by_the_rule_for_such() -> Result<()>
{
    const RULESET: &str = "table inet lab {
chain raw { type filter hook output priority raw
  tcp dport 27610 notrack
}
chain input { type filter hook input priority 0
  ct state established,related accept
  tcp sport 27610 ct state new drop
  ct state invalid drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = nft("inet lab input", "input", "ct state invalid drop");
    let cases = [four("app", 27610, &timed_out("firewall-drop").by(rule))];
    blocked_here(&host, "127.0.0.1:27619", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn a_rejection_that_nginx_did_not_wait_for_is_named() -> Result<()> {
    const RULESET: &str = "table inet lab { chain input { type filter hook input priority 0
  tcp dport 27620 reject with icmpv6 admin-prohibited
  tcp dport 27621 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = |telling| nft("inet lab input", "input", telling);
    let cases = [
        six(
            "rejected",
            27620,
            &timed_out("firewall-reject").by(rule("27620")),
        ),
        six(
            "dropped",
            27621,
            &timed_out("firewall-drop").by(rule("27621")),
        ),
    ];
    // Before the SYN is repeated.
    blocked_here(&host, "[::1]:27629", "400ms", &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn a_drop_that_the_client_did_not_wait_for_is_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let rule = nft("inet lab input", "input", "27630");
    let cases = [four("app", 27630, &aborted("firewall-drop").by(rule))];
    let _backend = listeners(&here, &cases, "127.0.0.1:27639")?;
    here.filter("input", "tcp dport 27631 drop\ntcp dport 27630 drop")?;
    let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
    let client = scene.nginx.send(&scene.namespace, "app-four")?;
    whyrefused_tests::patience::wait_for("the SYN", SOON, || {
        let sockets = whyrefused_tests::sockets::list(&scene.namespace)?;
        let waits = sockets.iter().any(|socket| socket.remote_port == 27630);
        Ok(waits.then_some(()))
    })?;
    drop(client);
    scene.explained("app-four", &cases[0].expected)?;
    scene.end().map(drop)
}

/// A router tells the same host only so many times (`inet_peer_xrlim_allow`): some of its
/// rejections look like drops.
#[test]
fn rejections_of_which_only_some_are_told_to_nginx_are_named_all() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.78.0.1/24"]),
        &there,
        ("eth0", &["10.78.0.2/24"]),
    )?;
    there.filter(
        "input",
        "tcp dport 27640 tcp sport 1-1023 drop\ntcp dport 27640 reject with icmp host-prohibited",
    )?;
    let _backend = Backend::listen(&there, "10.78.0.2:27640")?;
    let cases = [case("app", "10.78.0.2:27640", refused("firewall-reject"))];
    let config = config_of(&cases).connect_timeout("700ms");
    let mut scene = Scene::filtered(&host, here, &[&there], &config)?;
    let mut surfaces = Vec::new();
    for _ in 0..10 {
        ensure!(scene.get("app")?.status >= 500);
    }
    for _ in 0..10 {
        let failure = scene.tracer.failure(SOON, |_| true)?;
        let rule = failure.rule.as_ref().context("no rule")?;
        ensure!(
            failure.verdict.code == "firewall-reject" && rule.text.contains("host-prohibited"),
            "{failure:#?}"
        );
        surfaces.push(failure.attempt.surface);
    }
    ensure!(
        surfaces.iter().any(|surface| surface == "so_error")
            && surfaces.iter().any(|surface| surface == "timer"),
        "{surfaces:?}"
    );
    Ok(())
}
