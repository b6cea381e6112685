use clap::CommandFactory;
use proptest::prelude::*;

use super::*;

fn settings(words: &[&str], terminal: bool) -> Settings {
    let words = std::iter::once("whyrefused").chain(words.iter().copied());
    match Arguments::try_parse_from(words).unwrap().into_command() {
        Command::Trace(trace) => trace.into_settings(terminal),
        other => panic!("{other:?} is no trace"),
    }
}

fn refused(words: &[&str]) -> clap::Error {
    let words = std::iter::once("whyrefused").chain(words.iter().copied());
    Arguments::try_parse_from(words).unwrap_err()
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn trace_is_the_default_with_the_same_options() {
    let options = [
        "--duration",
        "30",
        "--pid",
        "7",
        "--pid",
        "9",
        "--coalesce",
        "0",
    ];
    let long: Vec<_> = std::iter::once("trace").chain(options).collect();
    let bare = settings(&options, true);
    assert_eq!(bare, settings(&long, true));
    assert_eq!(bare.duration, Some(Duration::from_secs(30)));
    assert_eq!(bare.pids, [7, 9]);
    assert_eq!(bare.coalesce, Duration::ZERO);
}

#[test]
fn types_may_come_from_a_file_for_a_trace_and_for_doctor() {
    let file = Some(PathBuf::from("x.btf"));
    assert_eq!(settings(&["--btf", "x.btf"], true).btf, file);
    assert_eq!(settings(&["trace", "--btf", "x.btf"], true).btf, file);
    let words = ["whyrefused", "doctor", "--btf", "x.btf"];
    match Arguments::try_parse_from(words).unwrap().into_command() {
        Command::Doctor(doctor) => assert_eq!(doctor.kernel.btf, file),
        other => panic!("{other:?} is no doctor"),
    }
}

#[test]
fn the_format_follows_where_the_output_goes() {
    assert_eq!(settings(&[], true).format, Format::Human);
    assert_eq!(settings(&[], false).format, Format::Json);
    assert_eq!(settings(&["--output", "-"], true).format, Format::Human);
    assert_eq!(settings(&["--output", "x"], true).format, Format::Json);
    let asked = settings(&["--output", "x", "--format", "human"], false);
    assert_eq!(asked.format, Format::Human);
    assert_eq!(asked.output, Output::File("x".into()));
}

#[test]
fn spans_are_read_as_people_write_them() {
    for (word, milliseconds) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("30", 30_000),
        ("0.5", 500),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("1h30m", 5_400_000),
        ("0", 0),
    ] {
        let read = span(word).unwrap();
        assert_eq!(read, Duration::from_millis(milliseconds), "{word}");
    }
    for word in ["", ".", "-1s", "1s ago", "soon", "5x", "99999999h", "1e9"] {
        assert!(span(word).is_err(), "{word}");
    }
    assert!(positive_span("0s").is_err());
}

#[test]
fn bad_usage_exits_with_2() {
    for words in [
        &["--pid", "0"][..],
        &["--duration", "0"],
        &["--format", "xml"],
        &["explain", "no-lissener"],
        &["--pid", "1", "doctor"],
    ] {
        assert_eq!(refused(words).exit_code(), 2, "{words:?}");
    }
}

#[test]
fn a_misspelt_code_gets_a_suggestion() {
    let message = refused(&["explain", "no-lisener"]).to_string();
    assert!(message.contains("did you mean `no-listener`"), "{message}");
    assert_eq!(code("No_Listener").unwrap(), Code::NoListener);
    assert!(matches!(code("zzzz"), Err(CodeError::Unlike)));
}

proptest! {
    #[test]
    fn no_word_makes_the_parsers_panic(word in "\\PC*") {
        let _ = span(&word);
        let _ = code(&word);
    }
}
