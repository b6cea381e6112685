//! Events for people: one headline each, the evidence under it, the fix last.

use std::collections::BTreeMap;

use crate::escape::visible;
use crate::event::{End, Event, Loss, NginxInstance, Recovery, Session, Upstream};
use crate::terminal::{Terminal, Tone};

mod failure;

/// Upstreams that the totals name one by one.
const UPSTREAMS_NAMED: usize = 20;

/// The event as it is shown, its last newline included.
pub fn text(event: &Event, terminal: &Terminal) -> String {
    match event {
        Event::Session(session) => session_text(session, terminal),
        Event::Failure(failure) => failure::text(failure, terminal),
        Event::Recovery(recovery) => recovery_text(recovery, terminal),
        Event::Loss(loss) => loss_text(loss, terminal),
        Event::End(end) => end_text(end, terminal),
    }
}

fn session_text(session: &Session, terminal: &Terminal) -> String {
    let headline = format!(
        "whyrefused {} on {}, kernel {}",
        visible(&session.version),
        visible(&session.host),
        visible(&session.kernel)
    );
    let mut page = headline_start(&session.time, terminal);
    page.push_str(&terminal.paint(Tone::Strong, &headline));
    page.push('\n');
    terminal.labelled(&mut page, "watches", None, instances(&session.nginx));
    let blind: Vec<_> = session
        .probes
        .iter()
        .filter(|probe| probe.via.is_none())
        .map(|probe| visible(&probe.observation))
        .collect();
    if !blind.is_empty() {
        let line = format!("{} (see `whyrefused doctor`)", blind.join(", "));
        terminal.labelled(&mut page, "blind to", Some(Tone::Warning), [line]);
    }
    let limits = session.limits.iter().map(|limit| visible(limit));
    terminal.labelled(&mut page, "limits", Some(Tone::Faint), limits);
    page.push('\n');
    page
}

/// One line for each nginx, for banners.
pub(crate) fn instances(found: &[NginxInstance]) -> Vec<String> {
    if found.is_empty() {
        return vec!["no nginx runs yet; one that starts will be watched".to_owned()];
    }
    found.iter().map(instance).collect()
}

fn instance(nginx: &NginxInstance) -> String {
    let master = match nginx.master_pid {
        Some(pid) => format!("nginx master {pid}"),
        None => "nginx without a master".to_owned(),
    };
    let workers = match nginx.workers.len() {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let mut line = format!("{master}, {workers}");
    for detail in [&nginx.config, &nginx.exe].into_iter().flatten().take(1) {
        line.push_str(&format!(", {}", visible(detail)));
    }
    if let Some(container) = &nginx.container {
        line.push_str(&format!(", container {}", visible(container)));
    }
    line
}

fn recovery_text(recovery: &Recovery, terminal: &Terminal) -> String {
    let news = format!(
        "accepts again after {} and {}",
        duration(recovery.down_for_ms.saturating_mul(1000)),
        counted(recovery.failures, "failed attempt")
    );
    let mut page = headline_start(&recovery.time, terminal);
    page.push_str(&terminal.paint(Tone::Strong, &upstream(&recovery.upstream)));
    page.push_str("  ");
    page.push_str(&terminal.paint(Tone::Good, &news));
    page.push_str("\n\n");
    page
}

fn loss_text(loss: &Loss, terminal: &Terminal) -> String {
    let news = format!(
        "{} lost in {}: {}",
        loss.count,
        visible(&loss.place),
        visible(&loss.what)
    );
    let mut page = headline_start(&loss.time, terminal);
    page.push_str(&terminal.paint(Tone::Warning, &news));
    page.push_str("\n\n");
    page
}

fn end_text(end: &End, terminal: &Terminal) -> String {
    let attempts: u64 = end.verdicts.values().sum();
    let news = match attempts {
        0 => "stopped; no attempt failed".to_owned(),
        _ => format!("stopped; {} in all", counted(attempts, "failed attempt")),
    };
    let mut page = headline_start(&end.time, terminal);
    page.push_str(&terminal.paint(Tone::Strong, &news));
    page.push('\n');
    terminal.labelled(&mut page, "causes", None, table(&end.verdicts));
    let mut upstreams = table(&end.upstreams);
    let unnamed = upstreams.len().saturating_sub(UPSTREAMS_NAMED);
    if unnamed > 0 {
        upstreams.truncate(UPSTREAMS_NAMED);
        upstreams.push(format!("and {} more", counted(unnamed as u64, "upstream")));
    }
    terminal.labelled(&mut page, "upstreams", None, upstreams);
    let losses = end.losses.iter().map(|lost| {
        let (place, what) = (visible(&lost.place), visible(&lost.what));
        format!("{} in {place}: {what}", lost.count)
    });
    terminal.labelled(&mut page, "lost", Some(Tone::Warning), losses);
    if attempts > 0 {
        let advice = "`whyrefused explain CODE` tells more of a cause";
        terminal.labelled(&mut page, "", Some(Tone::Faint), [advice]);
    }
    page
}

/// Counts with their names behind them, the largest first.
fn table<K: ToString>(counts: &BTreeMap<K, u64>) -> Vec<String> {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let columns = rows.first().map_or(0, |(_, most)| most.to_string().len());
    rows.into_iter()
        .map(|(name, count)| format!("{count:columns$}  {}", visible(&name.to_string())))
        .collect()
}

fn headline_start(time: &str, terminal: &Terminal) -> String {
    format!("{}  ", terminal.paint(Tone::Faint, &moment(time)))
}

/// An RFC 3339 time cut to milliseconds, as people read it.
fn moment(time: &str) -> String {
    let (date, clock) = time.split_once('T').unwrap_or(("", time));
    let clock = clock.get(..12).unwrap_or(clock);
    visible(&format!("{date} {clock}Z")).into_owned()
}

fn upstream(upstream: &Upstream) -> String {
    let address = upstream.address.as_deref().unwrap_or("unknown upstream");
    match &upstream.name {
        Some(name) if name != address => format!("{} ({})", visible(address), visible(name)),
        _ => visible(address).into_owned(),
    }
}

fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// A length of time in the unit that suits it.
fn duration(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", microseconds as f64 / 1e6),
        60_000_000..3_600_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_suits_them() {
        for (microseconds, text) in [
            (61, "61 µs"),
            (3_080, "3.1 ms"),
            (3_080_000, "3.08 s"),
            (125_000_000, "2 min 5 s"),
            (7_320_000_000, "2 h 2 min"),
        ] {
            assert_eq!(duration(microseconds), text);
        }
    }

    #[test]
    fn a_time_that_is_none_is_shown_all_the_same() {
        assert_eq!(
            moment("2026-11-22T06:10:00.123456789Z"),
            "2026-11-22 06:10:00.123Z"
        );
        assert_eq!(moment("\x1b"), " \\x1bZ");
    }
}
