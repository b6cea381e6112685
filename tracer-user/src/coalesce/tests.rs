use proptest::prelude::*;

use super::*;
use crate::event::{Attempt, Family, Nginx, SCHEMA, Surface, Upstream};
use crate::verdict::{Code, Confidence, Verdict};

const MS: u64 = 1_000_000;

fn coalescer() -> Coalescer {
    Coalescer::new(Duration::from_millis(100))
}

/// A failure that tells when it happened by its `time`.
fn failure(at: KernelTime) -> Failure {
    Failure {
        schema: SCHEMA.into(),
        time: at.to_string(),
        host: "edge".into(),
        count: 1,
        nginx: Nginx {
            pid: 2,
            master_pid: Some(1),
            exe: None,
            config: None,
            netns: 1,
            container: None,
        },
        upstream: Upstream {
            address: Some("127.0.0.1:1".into()),
            name: None,
            server: None,
        },
        attempt: Attempt {
            family: Family::Ipv4,
            local: None,
            remote: None,
            started: String::new(),
            duration_us: 0,
            errno: None,
            surface: Surface::None,
            translated_to: None,
        },
        verdict: Verdict {
            code: Code::NoListener,
            confidence: Confidence::Certain,
            summary: String::new(),
            because: Vec::new(),
            ruled_out: Vec::new(),
            missing: Vec::new(),
            fix: Vec::new(),
            policy: None,
        },
        rule: None,
        listener: None,
        candidates: Vec::new(),
        request: None,
    }
}

fn told(failures: Vec<Failure>) -> Vec<(String, u64)> {
    failures
        .into_iter()
        .map(|failure| (failure.time, failure.count))
        .collect()
}

#[test]
fn all_of_a_kind_within_the_window_are_one_event_with_their_number() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    for at in [5 * MS, 10 * MS, 20 * MS, 30 * MS] {
        assert!(coalescer.absorb(kind, at, || failure(at)).is_none());
    }
    assert_eq!(told(coalescer.due(104 * MS)), []);
    assert_eq!(told(coalescer.due(105 * MS)), [("5000000".to_owned(), 4)]);
    assert_eq!(coalescer.next_due(), None);
}

#[test]
fn a_stream_of_failures_is_one_event_a_window() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    let mut events = Vec::new();
    for at in (0..1000).map(|number| number * MS) {
        events.extend(told(coalescer.due(at)));
        events.extend(told(Vec::from_iter(
            coalescer.absorb(kind, at, || failure(at)),
        )));
    }
    events.extend(told(coalescer.flush()));
    assert_eq!(events.len(), 10);
    assert!(events.iter().all(|(_, count)| *count == 100), "{events:?}");
}

#[test]
fn a_failure_is_only_built_when_it_will_be_told() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    let mut built = 0;
    for at in 0..1000 {
        coalescer.absorb(kind, at, || {
            built += 1;
            failure(at)
        });
    }
    assert_eq!(built, 1);
}

#[test]
fn what_is_picked_is_told_before_its_window_closes() {
    let mut coalescer = coalescer();
    for at in [1, 2, 3] {
        let kind = coalescer.identity_of(&at);
        coalescer.absorb(kind, at, || failure(at));
        coalescer.count(kind, 6);
    }
    let early = coalescer.close_early(|failure| failure.time == "2");
    assert_eq!(told(early), [("2".to_owned(), 7)]);
    let rest = [("1".to_owned(), 7), ("3".to_owned(), 7)];
    assert_eq!(told(coalescer.flush()), rest);
}

#[test]
fn a_window_of_zero_folds_nothing() {
    let mut coalescer = Coalescer::new(Duration::ZERO);
    let kind = coalescer.identity_of(&"kind");
    for at in 0..3 {
        assert!(coalescer.absorb(kind, at, || failure(at)).is_some());
    }
    assert_eq!(coalescer.next_due(), None);
}

#[test]
fn more_kinds_than_there_is_room_for_are_told_one_by_one() {
    let mut coalescer = coalescer();
    for number in 0..=LIMIT {
        let kind = coalescer.identity_of(&number);
        coalescer.absorb(kind, 0, || failure(0));
    }
    let homeless = coalescer.identity_of(&LIMIT);
    assert!(coalescer.absorb(homeless, 1, || failure(1)).is_some());
}

proptest! {
    #[test]
    fn counts_add_up_to_the_attempts(
        steps in proptest::collection::vec((0_u8..5, 0_u64..80, any::<bool>()), 0..300),
        window in 0_u64..200,
    ) {
        let mut coalescer = Coalescer::new(Duration::from_millis(window));
        let mut now = 0;
        let mut counts = Vec::new();
        for (kind, pause, closes) in &steps {
            now += pause * MS;
            if *closes {
                counts.extend(coalescer.due(now));
            }
            let kind = coalescer.identity_of(kind);
            counts.extend(coalescer.absorb(kind, now, || failure(now)));
        }
        counts.extend(coalescer.flush());
        let sum: u64 = counts.iter().map(|failure| failure.count).sum();
        prop_assert_eq!(sum, steps.len() as u64);
        prop_assert!(counts.iter().all(|failure| failure.count > 0));
        prop_assert!(coalescer.flush().is_empty());
    }
}
