use proptest::prelude::*;
use whyrefused::escape::is_unsafe;
use whyrefused::event::Event;
use whyrefused::sinks::human;
use whyrefused::terminal::Terminal;

use crate::{cases, events};

#[test]
fn events_for_people_look_like_this() {
    for (name, event) in events::all() {
        insta::assert_snapshot!(
            format!("human_{name}"),
            human::text(&event, &Terminal::PLAIN)
        );
    }
}

#[test]
fn on_a_narrow_colour_terminal_they_look_like_this() {
    let narrow = Terminal {
        colour: true,
        width: Some(60),
    };
    let (name, event) = events::all().swap_remove(1);
    let text = human::text(&event, &narrow).replace('\x1b', "␛");
    insta::assert_snapshot!(format!("narrow_{name}"), text);
}

#[test]
fn nothing_that_a_terminal_would_obey_gets_through() {
    for (name, event) in events::all() {
        let text = human::text(&event, &Terminal::PLAIN);
        let raw: Vec<_> = text
            .chars()
            .filter(|found| is_unsafe(*found) && *found != '\n')
            .collect();
        assert!(raw.is_empty(), "{name}: {raw:?}");
    }
}

proptest! {
    #[test]
    fn no_text_and_no_width_lets_anything_through(
        text in "\\PC*|[\\x00-\\x{3000}]*",
        width in proptest::option::of(0_usize..200),
    ) {
        let mut failure = cases::rejected();
        failure.upstream.server = Some(text.clone());
        failure.verdict.summary = text.clone();
        failure.verdict.because = vec![text.clone()];
        failure.verdict.fix = vec![text.clone()];
        failure.time = text.clone();
        if let Some(rule) = &mut failure.rule {
            rule.text = text;
        }
        let terminal = Terminal { colour: false, width };
        let shown = human::text(&Event::Failure(Box::new(failure)), &terminal);
        prop_assert!(!shown.chars().any(|found| is_unsafe(found) && found != '\n'));
    }
}
