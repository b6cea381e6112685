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
fn the_first_is_told_at_once_and_its_followers_at_the_end_of_the_window() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    assert!(coalescer.absorb(kind, 0, || failure(0)).is_some());
    for at in [10 * MS, 20 * MS, 30 * MS] {
        assert!(coalescer.absorb(kind, at, || failure(at)).is_none());
    }
    assert_eq!(told(coalescer.due(99 * MS)), []);
    assert_eq!(told(coalescer.due(100 * MS)), [("10000000".to_owned(), 3)]);
}

#[test]
fn a_stream_of_failures_is_one_event_a_window() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    let mut events = 0;
    for at in (0..1000).map(|number| number * MS) {
        events += coalescer.due(at).len();
        events += usize::from(coalescer.absorb(kind, at, || failure(at)).is_some());
    }
    assert_eq!(events, 10);
}

#[test]
fn a_kind_that_was_quiet_for_a_window_is_told_at_once_again() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    coalescer.absorb(kind, 0, || failure(0));
    assert_eq!(told(coalescer.due(100 * MS)), []);
    assert_eq!(coalescer.next_due(), None);
    assert!(coalescer.absorb(kind, 101 * MS, || failure(0)).is_some());
}

#[test]
fn a_follower_is_only_built_when_it_will_be_told() {
    let mut coalescer = coalescer();
    let kind = coalescer.identity_of(&"kind");
    let mut built = 0;
    for at in 0..1000 {
        coalescer.absorb(kind, at, || {
            built += 1;
            failure(at)
        });
    }
    assert_eq!(built, 2);
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
