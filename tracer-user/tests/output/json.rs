use jsonschema::Validator;
use serde_json::Value;
use whyrefused::event::Event;
use whyrefused::schema;
use whyrefused::sinks::json;

use crate::events;

fn validator() -> Validator {
    jsonschema::draft202012::new(schema::events().as_value()).unwrap()
}

#[test]
fn events_for_programs_look_like_this() {
    for (name, event) in events::all() {
        let line = String::from_utf8(json::line(&event)).unwrap();
        insta::assert_snapshot!(format!("json_{name}"), line);
    }
}

#[test]
fn every_event_is_one_line_that_reads_back_the_same() {
    for (name, event) in events::all() {
        let line = String::from_utf8(json::line(&event)).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{name}");
        assert_eq!(
            serde_json::from_str::<Event>(&line).unwrap(),
            event,
            "{name}"
        );
    }
}

#[test]
fn every_event_satisfies_the_schema() {
    let validator = validator();
    for (name, event) in events::all() {
        let value = serde_json::to_value(&event).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        for field in ["schema", "event", "time", "host"] {
            assert!(value[field].is_string(), "{name} has no {field}");
        }
    }
}

#[test]
fn what_is_no_event_does_not_satisfy_the_schema() {
    let validator = validator();
    for (name, event) in events::all() {
        let value = serde_json::to_value(&event).unwrap();
        let changed = |field: &str, to: Value| {
            let mut changed = value.clone();
            changed[field] = to;
            changed
        };
        for wrong in [
            changed("event", "rumour".into()),
            changed("time", 17.into()),
            changed("host", Value::Null),
        ] {
            assert!(!validator.is_valid(&wrong), "{name}: {wrong}");
        }
    }
}

#[test]
fn the_schema_is_this() {
    insta::assert_snapshot!(schema::text());
}
