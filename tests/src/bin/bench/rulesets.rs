//! What it costs to name a rule, by the size of the ruleset it is in, and that nothing is paid
//! for rules that stop nobody.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::time::ClockId;
use nix::unistd::Pid;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::tracer::Tracer;

/// Requests that no rule stops, behind the first that one does.
const HEALTHY: usize = 200;
/// Failures behind the first.
const LATER: usize = 20;

/// Failures behind a ruleset of one size.
pub struct Measured {
    pub rules: usize,
    /// Processor time of the tool for the healthy requests, in milliseconds.
    pub healthy_cpu: f64,
    pub first: Named,
    /// Medians.
    pub later: Named,
}

/// What one failure took, in milliseconds.
#[derive(Clone, Copy)]
pub struct Named {
    /// From nginx's answer to the event.
    pub delay: f64,
    /// Processor time of the tool.
    pub cpu: f64,
}

/// Has a rule reject nginx behind `rules` others, and the tool name it.
pub fn measure(host: &Host, rules: usize) -> Result<Measured> {
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", "127.0.0.1:9001", "127.0.0.1:9002"])?;
    let config = Config::passing(&[
        ("healthy", "127.0.0.1:9001"),
        ("stopped", "127.0.0.1:9002"),
        ("closed", "127.0.0.1:9003"),
    ]);
    let nginx = Nginx::start(host, &here, &config)?;
    here.filter("input", &ruleset(rules)?)?;
    let pid = nginx.pid().to_string();
    let mut tracer = Tracer::start(host, &["--pid", &pid, "--coalesce", "0"])?;
    // What the first failure of any kind costs is not the ruleset's.
    ensure!(nginx.get(&here, "closed")?.status == 502);
    tracer.failure(SOON, |_| true)?;
    let first = fail(&nginx, &here, &mut tracer)?;
    // By now the tool has read the kernel's symbols, which it does once in the background.
    let before = cpu(&mut tracer)?;
    for _ in 0..HEALTHY {
        ensure!(nginx.get(&here, "healthy")?.status == 200);
    }
    let healthy_cpu = cpu(&mut tracer)? - before;
    let later = (0..LATER)
        .map(|_| fail(&nginx, &here, &mut tracer))
        .collect::<Result<Vec<_>>>()?;
    Ok(Measured {
        rules,
        healthy_cpu,
        first,
        later: Named {
            delay: median(later.iter().map(|named| named.delay)),
            cpu: median(later.iter().map(|named| named.cpu)),
        },
    })
}

/// The measurements as a table.
pub fn table(measured: &[Measured]) -> Result<String> {
    let mut text = format!(
        "## Naming a rule\n\nnginx is rejected by the last of so many nftables rules. The delay runs from its answer to \
         the event; the tool's processor time is that of all its threads. The ratio is that of the last row to the first.\n\n\
         | rules | tool CPU ms for {HEALTHY} requests that no rule stops | first failure: delay ms | tool CPU ms | each later: delay ms | tool CPU ms |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for one in measured {
        writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            one.rules,
            one.healthy_cpu,
            one.first.delay,
            one.first.cpu,
            one.later.delay,
            one.later.cpu
        )?;
    }
    if let [smallest, .., largest] = measured {
        writeln!(
            text,
            "| ratio | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            largest.healthy_cpu / smallest.healthy_cpu,
            largest.first.delay / smallest.first.delay,
            largest.first.cpu / smallest.first.cpu,
            largest.later.delay / smallest.later.delay,
            largest.later.cpu / smallest.later.cpu
        )?;
    }
    text.push('\n');
    Ok(text)
}

fn ruleset(rules: usize) -> Result<String> {
    let mut text = String::new();
    for number in 1..rules {
        let (high, low) = (number / 256, number % 256);
        writeln!(
            text,
            "ip saddr 10.9.{high}.{low} tcp dport {} drop",
            1 + number % 8000
        )?;
    }
    text.push_str("tcp dport 9002 reject with tcp reset");
    Ok(text)
}

fn fail(nginx: &Nginx, here: &Namespace, tracer: &mut Tracer) -> Result<Named> {
    let before = cpu(tracer)?;
    ensure!(nginx.get(here, "stopped")?.status == 502);
    let answered = Instant::now();
    let failure = tracer.failure(SOON, |_| true)?;
    let delay = answered.elapsed();
    ensure!(
        failure.rule.is_some() && failure.verdict.confidence == "certain",
        "the rule is not named: {failure:#?}"
    );
    Ok(Named {
        delay: milliseconds(delay),
        cpu: cpu(tracer)? - before,
    })
}

/// Processor time of the tool so far, in milliseconds, that of ended threads included.
fn cpu(tracer: &mut Tracer) -> Result<f64> {
    let pid = i32::try_from(tracer.process().pid())?;
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?;
    Ok(milliseconds(clock.now()?.into()))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
