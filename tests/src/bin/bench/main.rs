//! What it costs nginx to be watched, and whether anything is missed at full rate.
//!
//! Every pair of measurements is taken back to back in one run, with and without the tool, so
//! that whatever else the machine does meets both alike.

mod load;
mod report;
mod rulesets;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use whyrefused_tests::contract::Event;
use whyrefused_tests::host::Host;
use whyrefused_tests::nginx::Nginx;
use whyrefused_tests::tracer::{Finished, Tracer};

use self::load::{Bench, Load, Traffic};
use self::report::Report;

#[derive(Parser)]
#[command(about = "Measure nginx's throughput with and without whyrefused")]
struct Arguments {
    /// The program to measure.
    whyrefused: PathBuf,
    /// Pairs of measurements for each kind of traffic.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Length of one measurement, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Write the report to BENCHMARK.md, too.
    #[arg(long)]
    write: bool,
}

/// Sizes of rulesets in which a rule is named.
const RULES: [usize; 3] = [10, 1_000, 10_000];

/// Two measurements back to back.
struct Pair {
    without: Load,
    with: Load,
    watched: Watched,
}

/// What is known of the tool's part of a pair.
struct Watched {
    attached_in: Duration,
    detached_in: Duration,
    /// Peak resident memory of the tool, in kibibytes.
    peak_kib: u64,
    /// Refused attempts by nginx's own error log.
    logged: u64,
    /// Refused attempts by the tool's events.
    counted: u64,
    /// Records that the tool says it lost.
    lost: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let host = Host::with(&arguments.whyrefused)?;
    let bench = Bench::set(&host)?;
    let mut report = Report::new(&host, &arguments)?;
    for traffic in [Traffic::Healthy, Traffic::Kept, Traffic::Refused] {
        let pairs = measure(&host, &bench, traffic, &arguments)?;
        report.add(traffic, &pairs)?;
    }
    let sizes = RULES.map(|rules| rulesets::measure(&host, rules));
    let measured = sizes.into_iter().collect::<Result<Vec<_>>>()?;
    report.append(&rulesets::table(&measured)?);
    println!("{}", report.text());
    if arguments.write {
        report.write()?;
    }
    Ok(())
}

fn measure(
    host: &Host,
    bench: &Bench,
    traffic: Traffic,
    arguments: &Arguments,
) -> Result<Vec<Pair>> {
    // The first load warms caches and is thrown away.
    bench.load(traffic, 1)?;
    let mut pairs = Vec::new();
    for number in 0..arguments.pairs {
        eprintln!("{traffic}: pair {} of {}", number + 1, arguments.pairs);
        // Whichever comes second might have it easier; take turns.
        let pair = if number % 2 == 0 {
            let without = bench.load(traffic, arguments.seconds)?;
            let (with, watched) = watch(host, bench, traffic, arguments.seconds)?;
            Pair {
                without,
                with,
                watched,
            }
        } else {
            let (with, watched) = watch(host, bench, traffic, arguments.seconds)?;
            let without = bench.load(traffic, arguments.seconds)?;
            Pair {
                without,
                with,
                watched,
            }
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// One measurement with the tool attached, as it runs by default: every nginx of the host, and
/// identical failures of one second folded.
fn watch(host: &Host, bench: &Bench, traffic: Traffic, seconds: u64) -> Result<(Load, Watched)> {
    let before = refusals(&bench.proxy)?;
    let mut tracer = Tracer::start(host, &[])?;
    let attached_in = tracer.attached_in;
    let rate = bench.load(traffic, seconds)?;
    let peak_kib = peak_memory(tracer.process().pid())?;
    let finished = tracer.stop(Signal::SIGINT)?;
    ensure!(
        finished.status.success(),
        "{}: {}",
        finished.status,
        finished.stderr
    );
    let watched = Watched {
        attached_in,
        detached_in: finished.detached_in,
        peak_kib,
        logged: refusals(&bench.proxy)? - before,
        counted: counted(&finished, bench),
        lost: finished
            .end
            .iter()
            .flat_map(|end| &end.losses)
            .map(|loss| loss.count)
            .sum(),
    };
    Ok((rate, watched))
}

/// Failed attempts of the measured nginx; another one on the host may fail, too.
fn counted(finished: &Finished, bench: &Bench) -> u64 {
    let ours = |event: &Event| match event {
        Event::Failure(failure) if failure.nginx.netns == bench.namespace.inode() => failure.count,
        _ => 0,
    };
    finished.unclaimed.iter().map(ours).sum()
}

/// How many refusals nginx has logged; the log is too long to be held.
fn refusals(nginx: &Nginx) -> Result<u64> {
    let mut log = BufReader::new(File::open(nginx.error_log())?);
    let (mut line, mut refusals) = (Vec::new(), 0);
    while log.read_until(b'\n', &mut line)? > 0 {
        refusals += u64::from(String::from_utf8_lossy(&line).contains("connect() failed (111"));
        line.clear();
    }
    Ok(refusals)
}

fn peak_memory(pid: u32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("the tool is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .context("no VmHWM in the tool's status")
}
