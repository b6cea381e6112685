//! The measurements as a table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use whyrefused_tests::host::Host;

use crate::load::Traffic;
use crate::{Arguments, Pair};

/// What has been measured so far, in Markdown.
pub struct Report {
    text: String,
    repeat: String,
}

impl Report {
    pub fn new(host: &Host, arguments: &Arguments) -> Result<Self> {
        let Arguments { pairs, seconds, .. } = arguments;
        let mut text = String::from("# Benchmark\n\n");
        writeln!(
            text,
            "Measured {}; load average before: {}.\n",
            machine(host)?,
            load_average()?
        )?;
        writeln!(
            text,
            "nginx with one worker before another with one, all in one network namespace; wrk \
             with one thread and 32 connections beside them. A ratio below 1 is what the tool costs. Each pair is {seconds} s without and \
             {seconds} s with the tool, back to back, the order alternating; the tool runs with \
             its defaults (every nginx of the host, identical failures folded over one second).\n"
        )?;
        let repeat = format!(
            "Repeat with `cargo xtask bench -- --pairs {pairs} --seconds {seconds} --write`.\n"
        );
        Ok(Self { text, repeat })
    }

    pub fn add(&mut self, traffic: Traffic, pairs: &[Pair]) -> Result<()> {
        let text = &mut self.text;
        writeln!(
            text,
            "## {}{}\n",
            traffic.to_string()[..1].to_uppercase(),
            &traffic.to_string()[1..]
        )?;
        writeln!(
            text,
            "| pair | requests/s without | with | ratio | worker CPU µs/request without | with | ratio | refused by nginx's log | counted | lost |"
        )?;
        writeln!(
            text,
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for (
            number,
            Pair {
                without,
                with,
                watched,
            },
        ) in pairs.iter().enumerate()
        {
            writeln!(
                text,
                "| {} | {:.0} | {:.0} | {:.3} | {:.1} | {:.1} | {:.3} | {} | {} | {} |",
                number + 1,
                without.rate,
                with.rate,
                with.rate / without.rate,
                without.cpu,
                with.cpu,
                without.cpu / with.cpu,
                watched.logged,
                watched.counted,
                watched.lost
            )?;
        }
        writeln!(
            text,
            "| median | {:.0} | {:.0} | **{:.3}** | {:.1} | {:.1} | **{:.3}** | | | |\n",
            median(pairs, |pair| pair.without.rate),
            median(pairs, |pair| pair.with.rate),
            median(pairs, |pair| pair.with.rate / pair.without.rate),
            median(pairs, |pair| pair.without.cpu),
            median(pairs, |pair| pair.with.cpu),
            median(pairs, |pair| pair.without.cpu / pair.with.cpu)
        )?;
        self.add_summary(pairs)
    }

    pub fn append(&mut self, section: &str) {
        self.text.push_str(section);
    }

    fn add_summary(&mut self, pairs: &[Pair]) -> Result<()> {
        let missed = pairs
            .iter()
            .filter(|pair| pair.watched.counted != pair.watched.logged)
            .count();
        let counting = match missed {
            0 => "every refusal was counted".to_owned(),
            missed => format!("counts differ in {missed} of {} pairs", pairs.len()),
        };
        writeln!(
            self.text,
            "Attached in {:.0} ms, detached in {:.0} ms (medians); at most {:.1} MiB resident; {counting}.\n",
            median(pairs, |pair| milliseconds(pair.watched.attached_in)),
            median(pairs, |pair| milliseconds(pair.watched.detached_in)),
            pairs
                .iter()
                .map(|pair| pair.watched.peak_kib)
                .max()
                .unwrap_or_default() as f64
                / 1024.0
        )?;
        Ok(())
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.text, self.repeat)
    }

    /// Writes it beside the workspace's other documents.
    pub fn write(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARK.md");
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn median(pairs: &[Pair], value: impl Fn(&Pair) -> f64) -> f64 {
    let mut values: Vec<f64> = pairs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn machine(host: &Host) -> Result<String> {
    let day = jiff::Timestamp::now().to_string();
    let day = day.split('T').next().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    let described = fs::read_to_string("/proc/cpuinfo")?;
    let model = described
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    // nginx prints its version to standard error.
    let output = Command::new(&host.nginx).arg("-v").output()?;
    let nginx = String::from_utf8_lossy(&output.stderr);
    let nginx = nginx
        .trim()
        .rsplit_once(' ')
        .map_or("nginx", |(_, version)| version);
    Ok(format!(
        "{day} on {processors} CPUs ({model}), Linux {}, {nginx}",
        kernel.trim()
    ))
}

fn load_average() -> Result<String> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}
