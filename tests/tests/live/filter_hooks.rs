//! A rule at every hook of every family: the verdict names the hook and the namespace.

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, refused, timed_out};

/// One rule and what it must be told as.
struct Trial {
    port: u16,
    family: &'static str,
    /// The hook with its device, as nft has it.
    hook: &'static str,
    /// Matches the answer of the port, not the SYN to it.
    answer: bool,
    /// Which of the scene's namespaces it is in.
    place: usize,
    /// The hook as the verdict calls it.
    told: &'static str,
}

const fn syn(
    port: u16,
    place: usize,
    family: &'static str,
    hook: &'static str,
    told: &'static str,
) -> Trial {
    Trial {
        port,
        family,
        hook,
        answer: false,
        place,
        told,
    }
}

const fn answer(
    port: u16,
    place: usize,
    family: &'static str,
    hook: &'static str,
    told: &'static str,
) -> Trial {
    Trial {
        answer: true,
        ..syn(port, place, family, hook, told)
    }
}

fn host() -> Option<Host> {
    let host = Host::find()?;
    match program("nft", "nftables") {
        Ok(_) => Some(host),
        Err(missing) => {
            skip(&format!("{missing:#}"));
            None
        }
    }
}

/// A table with a base chain for the trial.
fn ruleset(trial: &Trial) -> String {
    let (side, port) = (if trial.answer { "sport" } else { "dport" }, trial.port);
    let (family, hook) = (trial.family, trial.hook);
    format!(
        "table {family} lab{port} {{\nchain c {{\ntype filter hook {hook} priority 0\ntcp {side} {port} drop\n}}\n}}"
    )
}

/// Makes the trials' rules, and gives those that the kernel takes: `inet` has the hook ingress since
/// 5.10, and `netdev` egress since 5.16.
fn taken<'a>(places: &[&Namespace], trials: &'a [Trial]) -> Result<Vec<&'a Trial>> {
    let mut taken = Vec::new();
    for trial in trials {
        let (family, hook) = (trial.family, trial.hook);
        let late = hook.starts_with("egress") || family == "inet" && hook.starts_with("ingress");
        match places[trial.place].ruleset(&ruleset(trial)) {
            Ok(()) => taken.push(trial),
            Err(refused) if late => skip(&format!("{family} {hook}: {refused:#}")),
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Every trial fails with `firewall-drop`, which names its hook and namespace.
fn each_is_told(
    host: &Host,
    here: Namespace,
    places: &[&Namespace],
    trials: &[Trial],
    target: &str,
) -> Result<()> {
    let trials = taken(places, trials)?;
    let upstreams: Vec<(String, String)> = trials
        .iter()
        .map(|trial| {
            (
                format!("p{}", trial.port),
                format!("{target}:{}", trial.port),
            )
        })
        .collect();
    let upstreams: Vec<(&str, &str)> = upstreams
        .iter()
        .map(|(name, address)| (name.as_str(), address.as_str()))
        .collect();
    let own = here.inode();
    let config = Config::passing(&upstreams).connect_timeout("1300ms");
    let mut scene = Scene::new(host, here, &config)?;
    for (trial, (name, _)) in trials.into_iter().zip(&upstreams) {
        let failure = scene.fails(name, &timed_out("firewall-drop"))?;
        let told = format!("{} {:?}", failure.verdict.summary, failure.verdict.because);
        let inode = places[trial.place].inode();
        let space = if inode == own {
            "nginx's network namespace".to_owned()
        } else {
            inode.to_string()
        };
        for words in [format!("the {} hook", trial.told), space] {
            ensure!(
                told.contains(&words),
                "{} {} does not tell {words:?}: {failure:#?}",
                trial.family,
                trial.hook
            );
        }
    }
    scene.end().map(drop)
}

/// nginx, a router and a backend.
fn routed() -> Result<[Namespace; 3]> {
    let (here, router, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &router,
        ("left", &["10.1.0.254/24", "fd01::fe/64"]),
    )?;
    there.link(
        ("eth0", &["10.2.0.2/24", "fd02::2/64"]),
        &router,
        ("right", &["10.2.0.254/24", "fd02::fe/64"]),
    )?;
    router.forward()?;
    here.ip("route add default via 10.1.0.254")?;
    here.ip6("route add default via fd01::fe")?;
    there.ip("route add default via 10.2.0.254")?;
    there.ip6("route add default via fd02::fe")?;
    Ok([here, router, there])
}

fn listening(namespace: &Namespace, trials: &[Trial], any: &str) -> Result<Backend> {
    let addresses: Vec<String> = trials
        .iter()
        .map(|trial| format!("{any}:{}", trial.port))
        .collect();
    let mut arguments = vec!["tcp"];
    arguments.extend(addresses.iter().map(String::as_str));
    Backend::start(namespace, &arguments)
}

#[test]
fn every_hook_of_ipv4_on_a_routed_way_is_told() -> Result<()> {
    const TRIALS: [Trial; 16] = [
        syn(17001, 0, "ip", "output", "output"),
        syn(17002, 0, "inet", "postrouting", "postrouting"),
        syn(17003, 0, "netdev", "egress device wan0", "egress"),
        answer(17004, 0, "ip", "input", "input"),
        answer(17005, 0, "ip", "prerouting", "prerouting"),
        answer(17006, 0, "netdev", "ingress device wan0", "ingress"),
        syn(17007, 1, "ip", "prerouting", "prerouting"),
        syn(17008, 1, "inet", "forward", "forward"),
        syn(17009, 1, "ip", "postrouting", "postrouting"),
        syn(17010, 1, "netdev", "ingress device left", "ingress"),
        syn(17011, 1, "netdev", "egress device right", "egress"),
        answer(17012, 1, "ip", "forward", "forward"),
        syn(17013, 2, "ip", "input", "input"),
        syn(17014, 2, "ip", "prerouting", "prerouting"),
        syn(17015, 2, "inet", "ingress device eth0", "ingress"),
        answer(17016, 2, "ip", "output", "output"),
    ];
    let Some(host) = host() else {
        return Ok(());
    };
    let [here, router, there] = routed()?;
    let _backend = listening(&there, &TRIALS, "10.2.0.2")?;
    each_is_told(
        &host,
        here.clone(),
        &[&here, &router, &there],
        &TRIALS,
        "10.2.0.2",
    )
}

#[test]
fn every_hook_of_ipv6_on_a_routed_way_is_told() -> Result<()> {
    const TRIALS: [Trial; 14] = [
        syn(17101, 0, "ip6", "output", "output"),
        syn(17102, 0, "ip6", "postrouting", "postrouting"),
        syn(17103, 0, "netdev", "egress device wan0", "egress"),
        answer(17104, 0, "ip6", "input", "input"),
        answer(17105, 0, "ip6", "prerouting", "prerouting"),
        syn(17107, 1, "ip6", "prerouting", "prerouting"),
        syn(17108, 1, "ip6", "forward", "forward"),
        syn(17109, 1, "inet", "postrouting", "postrouting"),
        syn(17110, 1, "netdev", "ingress device left", "ingress"),
        answer(17112, 1, "inet", "forward", "forward"),
        syn(17113, 2, "ip6", "input", "input"),
        syn(17114, 2, "inet", "prerouting", "prerouting"),
        syn(17115, 2, "inet", "ingress device eth0", "ingress"),
        answer(17116, 2, "ip6", "output", "output"),
    ];
    let Some(host) = host() else {
        return Ok(());
    };
    let [here, router, there] = routed()?;
    let _backend = listening(&there, &TRIALS, "[fd02::2]")?;
    each_is_told(
        &host,
        here.clone(),
        &[&here, &router, &there],
        &TRIALS,
        "[fd02::2]",
    )
}

/// nginx and a backend on the ports of a bridge in a namespace of its own.
fn bridged() -> Result<[Namespace; 3]> {
    let (here, switch, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    here.link(("wan0", &["10.3.0.1/24"]), &switch, ("left", &[]))?;
    there.link(("eth0", &["10.3.0.2/24"]), &switch, ("right", &[]))?;
    switch.ip("link add br0 type bridge\nlink set left master br0\nlink set right master br0\nlink set br0 up")?;
    Ok([here, switch, there])
}

#[test]
fn every_hook_of_a_bridge_is_told() -> Result<()> {
    const TRIALS: [Trial; 5] = [
        syn(17201, 1, "bridge", "prerouting", "prerouting"),
        syn(17202, 1, "bridge", "forward", "forward"),
        syn(17203, 1, "bridge", "postrouting", "postrouting"),
        answer(17204, 1, "bridge", "forward", "forward"),
        syn(17205, 1, "netdev", "ingress device left", "ingress"),
    ];
    let Some(host) = host() else {
        return Ok(());
    };
    let [here, switch, there] = bridged()?;
    let _backend = listening(&there, &TRIALS, "10.3.0.2")?;
    each_is_told(
        &host,
        here.clone(),
        &[&here, &switch, &there],
        &TRIALS,
        "10.3.0.2",
    )
}

#[test]
fn the_hooks_of_ip_that_a_bridge_calls_are_told() -> Result<()> {
    const TRIALS: [Trial; 3] = [
        syn(17301, 1, "ip", "prerouting", "prerouting"),
        syn(17302, 1, "ip", "forward", "forward"),
        syn(17303, 1, "ip", "postrouting", "postrouting"),
    ];
    let Some(host) = host() else {
        return Ok(());
    };
    let [here, switch, there] = bridged()?;
    if let Err(error) = switch.sysctl("bridge/bridge-nf-call-iptables", "1") {
        skip(&format!("{error:#}"));
        return Ok(());
    }
    let _backend = listening(&there, &TRIALS, "10.3.0.2")?;
    each_is_told(
        &host,
        here.clone(),
        &[&here, &switch, &there],
        &TRIALS,
        "10.3.0.2",
    )
}

#[test]
fn an_input_or_output_rule_of_the_bridge_that_nginx_is_on_is_told() -> Result<()> {
    const TRIALS: [Trial; 3] = [
        syn(17401, 0, "bridge", "output", "output"),
        syn(17402, 0, "bridge", "postrouting", "postrouting"),
        answer(17403, 0, "bridge", "input", "input"),
    ];
    let Some(host) = host() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(("port", &[]), &there, ("eth0", &["10.4.0.2/24"]))?;
    here.ip("link add br0 type bridge\nlink set port master br0")?;
    here.address("br0", &["10.4.0.1/24"])?;
    let _backend = listening(&there, &TRIALS, "10.4.0.2")?;
    each_is_told(&host, here.clone(), &[&here, &there], &TRIALS, "10.4.0.2")
}

#[test]
fn a_reset_made_on_a_router_of_this_host_names_its_hook() -> Result<()> {
    let Some(host) = host() else {
        return Ok(());
    };
    let [here, router, there] = routed()?;
    let _backend = Backend::start(&there, &["tcp", "10.2.0.2:17501", "[fd02::2]:17501"])?;
    router.ruleset(
        "table inet lab {\nchain c {\ntype filter hook forward priority 0\ntcp dport 17501 reject with tcp reset\n}\n}",
    )?;
    let upstreams = [("four", "10.2.0.2:17501"), ("six", "[fd02::2]:17501")];
    let mut scene = Scene::new(&host, here, &Config::passing(&upstreams))?;
    for (name, _) in upstreams {
        let failure = scene.fails(name, &refused("firewall-reject"))?;
        let rule = failure.rule.as_ref();
        ensure!(
            rule.is_some_and(|rule| rule.hook == "forward" && rule.netns == router.inode()),
            "{failure:#?}"
        );
    }
    scene.end().map(drop)
}
