//! A failure for people.

use super::{duration, headline_start, upstream};
use crate::escape::visible;
use crate::event::{Attempt, Candidate, Failure, Nginx, Request, Rule, Surface};
use crate::terminal::{Terminal, Tone};
use crate::verdict::Confidence;

/// Candidates that are named one by one.
const CANDIDATES_NAMED: usize = 3;

/// Rules that are named beside the likeliest.
const ALTERNATIVES_NAMED: usize = 3;

pub fn text(failure: &Failure, terminal: &Terminal) -> String {
    let verdict = &failure.verdict;
    let mut page = headline(failure, terminal);
    for line in terminal.wrapped(&visible(&verdict.summary), 2) {
        page.push_str("  ");
        page.push_str(&terminal.paint(Tone::Strong, &line));
        page.push('\n');
    }
    let because = verdict.because.iter().map(|fact| visible(fact));
    terminal.labelled(&mut page, "because", None, because);
    let rules = failure.rule.iter().flat_map(rules);
    terminal.labelled(&mut page, "rule", None, rules);
    let really = failure.attempt.translated_to.as_deref().map(visible);
    terminal.labelled(&mut page, "by NAT to", None, really);
    let meant = failure.candidates.iter().take(CANDIDATES_NAMED);
    terminal.labelled(&mut page, "meant?", None, meant.map(candidate));
    let excluded = verdict
        .ruled_out
        .iter()
        .map(|other| format!("{}: {}", other.code, visible(&other.why)));
    terminal.labelled(&mut page, "not", Some(Tone::Faint), excluded);
    let missing = verdict.missing.iter().map(|gap| visible(gap));
    terminal.labelled(&mut page, "missing", Some(Tone::Warning), missing);
    let request = failure.request.as_ref().and_then(request);
    terminal.labelled(&mut page, "request", Some(Tone::Faint), request);
    terminal.labelled(&mut page, "nginx", Some(Tone::Faint), [nginx(failure)]);
    let fix: Vec<_> = verdict
        .fix
        .iter()
        .map(|step| visible(step).into_owned())
        .collect();
    terminal.labelled_whole(&mut page, "fix", Some(Tone::Command), &fix);
    page.push('\n');
    page
}

fn headline(failure: &Failure, terminal: &Terminal) -> String {
    let verdict = &failure.verdict;
    let mut line = headline_start(&failure.time, terminal);
    line.push_str(&terminal.paint(Tone::Strong, &upstream(&failure.upstream)));
    line.push_str(&format!("  {}  ", visible(&met(&failure.attempt))));
    line.push_str(&terminal.paint(Tone::Bad, verdict.code.as_str()));
    match verdict.confidence {
        Confidence::Certain => {}
        Confidence::Probable => line.push_str(" (probable)"),
        Confidence::Possible => line.push_str(" (possible)"),
    }
    if failure.count > 1 {
        line.push_str(&terminal.paint(Tone::Strong, &format!("  ×{}", failure.count)));
    }
    line.push('\n');
    line
}

/// What nginx met, and after how long.
fn met(attempt: &Attempt) -> String {
    let after = duration(attempt.duration_us);
    match (attempt.surface, &attempt.errno) {
        (Surface::Timer, _) => format!("nginx gave up after {after}"),
        (Surface::ClientAbort, _) => format!("client left after {after}"),
        (Surface::Bind, Some(errno)) => format!("bind() {errno}"),
        (Surface::Socket, Some(errno)) => format!("socket() {errno}"),
        (Surface::Connect, Some(errno)) => format!("connect() {errno}"),
        (Surface::Recv, Some(errno)) => format!("recv() {errno} after {after}"),
        (Surface::Send, Some(errno)) => format!("send() {errno} after {after}"),
        (_, Some(errno)) => format!("{errno} after {after}"),
        (_, None) => format!("no error, after {after}"),
    }
}

/// The rule that did it, and those that could have as well.
fn rules(rule: &Rule) -> Vec<String> {
    let mut lines = vec![rule_text(rule)];
    let others = rule.alternatives.iter().take(ALTERNATIVES_NAMED);
    lines.extend(others.map(|other| format!("or {}", rule_text(other))));
    lines
}

fn rule_text(rule: &Rule) -> String {
    let place = match (rule.handle, rule.position) {
        _ if rule.policy => " policy".to_owned(),
        (Some(handle), _) => format!(" handle {handle}"),
        (None, Some(position)) => format!(" rule {position}"),
        (None, None) => String::new(),
    };
    let manager = match &rule.manager {
        Some(manager) => format!(" (made by {manager})"),
        None => String::new(),
    };
    let text = format!(
        "{} {} {} {}{place}: {}{manager}",
        rule.backend, rule.family, rule.table, rule.chain, rule.text
    );
    visible(&text).into_owned()
}

fn candidate(candidate: &Candidate) -> String {
    let mut line = visible(&candidate.address).into_owned();
    if let Some(comm) = &candidate.comm {
        line.push_str(&format!(" of {}", visible(comm)));
    }
    if let Some(pid) = candidate.pid {
        line.push_str(&format!("[{pid}]"));
    }
    if let Some(unit) = &candidate.unit {
        line.push_str(&format!(", {}", visible(unit)));
    }
    if let Some(container) = &candidate.container {
        line.push_str(&format!(", container {}", visible(container)));
    }
    line
}

fn request(request: &Request) -> Option<String> {
    let mut line = match &request.request {
        Some(text) => format!("\"{}\"", visible(text)),
        None => String::new(),
    };
    for (word, part) in [
        ("from", &request.client),
        ("for host", &request.host),
        ("on server", &request.server),
    ] {
        if let Some(part) = part {
            line.push_str(&format!(" {word} {}", visible(part)));
        }
    }
    (!line.is_empty()).then(|| line.trim_start().to_owned())
}

fn nginx(failure: &Failure) -> String {
    let Nginx {
        pid,
        master_pid,
        config,
        container,
        ..
    } = &failure.nginx;
    let mut line = format!("worker {pid}");
    if let Some(master) = master_pid {
        line.push_str(&format!(" of master {master}"));
    }
    if let Some(container) = container {
        line.push_str(&format!(" in container {}", visible(container)));
    }
    match (&failure.upstream.server, config) {
        (Some(server), _) => line.push_str(&format!(", configured at {}", visible(server))),
        (None, Some(config)) => line.push_str(&format!(", {}", visible(config))),
        (None, None) => {}
    }
    line
}
