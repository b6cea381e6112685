//! The output as a whole: what a slow reader loses is told, in the output itself.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use whyrefused::cli::{Format, Output, Settings};
use whyrefused::event::Event;
use whyrefused::sinks::{Sink, Written};

use crate::events;

const PATIENCE: Duration = Duration::from_secs(10);

fn pipe() -> (File, File) {
    let (read, write): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

fn named(wanted: &str) -> Event {
    let (_, event) = events::all()
        .into_iter()
        .find(|(name, _)| *name == wanted)
        .unwrap();
    event
}

fn read_all(read: File) -> Vec<Event> {
    BufReader::new(read)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect()
}

#[test]
fn a_slow_reader_is_told_how_many_events_it_missed() {
    let (read, write) = pipe();
    let mut sink = Sink::onto(write, Format::Json, "edge-3".into()).unwrap();
    let failure = named("killed");
    let mut written = 0;
    while sink.losses().is_none_or(|lost| lost.count < 100) {
        sink.write(&failure);
        written += 1;
    }
    let reader = std::thread::spawn(move || read_all(read));
    let finished = sink.finish(&named("end"), PATIENCE);
    assert_eq!(finished.written, Written::Done);
    let events = reader.join().unwrap();
    let failures = events.iter().filter(|event| **event == failure).count() as u64;
    let told: u64 = events
        .iter()
        .filter_map(|event| match event {
            Event::Loss(loss) if loss.place == "output" => Some(loss.count),
            _ => None,
        })
        .sum();
    assert_eq!(failures + told, written);
    assert_eq!(told, finished.lost);
    assert!(matches!(events.last(), Some(Event::End(_))));
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let (_read, write) = pipe();
    let mut sink = Sink::onto(write, Format::Json, "edge-3".into()).unwrap();
    for _ in 0..500 {
        sink.write(&named("killed"));
    }
    let begun = Instant::now();
    let finished = sink.finish(&named("end"), Duration::from_millis(300));
    assert!(begun.elapsed() < PATIENCE);
    assert!(finished.lost > 0);
    assert_eq!(finished.exit_status(), 0);
}

#[test]
fn a_full_disk_ends_with_2() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut sink = Sink::onto(full, Format::Json, "edge-3".into()).unwrap();
    sink.write(&named("session"));
    let finished = sink.finish(&named("end"), PATIENCE);
    assert_eq!(finished.exit_status(), 2);
    assert_eq!(finished.lost, 2);
}

#[test]
fn events_are_appended_to_the_file_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.json");
    for _ in 0..2 {
        let settings = Settings {
            format: Format::Json,
            output: Output::File(path.clone()),
            record: None,
            duration: None,
            pids: Vec::new(),
            coalesce: Duration::ZERO,
            dns: true,
            btf: None,
        };
        let mut sink = Sink::open(&settings, "edge-3".into()).unwrap();
        sink.write(&named("session"));
        sink.finish(&named("end"), PATIENCE);
    }
    assert_eq!(read_all(File::open(path).unwrap()).len(), 4);
}
