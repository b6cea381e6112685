//! What nginx writes of a failure, and how: to several logs, cut off, or among much else.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::{Expected, Scene, ended_well, met, refused};
use whyrefused_tests::tally;
use whyrefused_tests::tracer::Tracer;

/// Lengths of paths that make nginx cut the line off within the request, the upstream's address
/// and what follows, and one of which nothing but a part of the request is left.
const LENGTHS: [usize; 13] = [
    1780, 1800, 1820, 1830, 1840, 1850, 1860, 1870, 1880, 1890, 1900, 1930, 4000,
];

/// Requests with such paths fail like that, and nothing else is told.
fn fail_at_any_length(address: &str, ending: Option<&str>, code: &str) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let ending = ending.map(|ending| Backend::start(&here, &["tcp", address, "--ending", ending]));
    let _backend = ending.transpose()?;
    let nginx = Nginx::start(&host, &here, &Config::passing(&[("app", address)]))?;
    let mut tracer = Tracer::watch(&host, nginx.pid())?;
    for length in LENGTHS {
        let path = format!("app/{}", "a".repeat(length));
        ensure!(nginx.get(&here, &path)?.status == 502);
        let failure = tracer
            .failure(SOON, |_| true)
            .with_context(|| nginx.errors().unwrap_or_default().join("\n"))?;
        tally::verdict(code, Some(&failure.verdict), failure.verdict.code == code);
        check(&failure, &nginx, address, code).with_context(|| format!("{length} {failure:#?}"))?;
    }
    let end = ended_well(&tracer.stop(Signal::SIGINT)?)?;
    ensure!(end.verdicts.len() == 1, "{end:?}");
    Ok(())
}

fn check(failure: &Failure, nginx: &Nginx, address: &str, code: &str) -> Result<()> {
    ensure!(failure.verdict.code == code, "not {code}");
    ensure!(failure.verdict.confidence == "certain", "not certain");
    let dialled = failure.upstream.address.as_deref();
    ensure!(dialled == Some(address), "not at {address}");
    ensure!(failure.upstream.name.as_deref() == Some("app"), "no name");
    let request = failure.request.as_ref().context("no request")?;
    // The line is told without blanks at its end, and it may have been cut off behind one.
    let same = |line: &String| line.trim_end() == request.log_line;
    ensure!(nginx.errors()?.iter().any(same), "no such line");
    let whole = format!("http://{address}/");
    let upstream = request.upstream.as_ref();
    ensure!(
        upstream.is_none_or(|upstream| upstream.starts_with(&whole)),
        "{upstream:?}"
    );
    Ok(())
}

#[test]
fn a_refusal_is_joined_with_a_line_that_was_cut_off() -> Result<()> {
    fail_at_any_length("127.0.0.1:23900", None, "no-listener")
}

#[test]
fn a_failure_after_connect_is_told_by_a_line_that_was_cut_off() -> Result<()> {
    fail_at_any_length("127.0.0.1:23901", Some("close"), "closed-by-backend")?;
    fail_at_any_length("127.0.0.1:23902", Some("reset"), "reset-by-backend")
}

/// A refused and a reset request fail once each, with their lines.
fn fail_once_each(config: impl Fn(&mut Config), addresses: [&str; 3]) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let [one, other, broken] = addresses;
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", broken, "--ending", "reset"])?;
    let upstreams = vec![
        Upstream::new("refused", one).or(other),
        Upstream::new("reset", broken),
    ];
    let mut written = Config::of(upstreams);
    config(&mut written);
    let mut scene = Scene::new(&host, here, &written)?;
    for _ in 0..3 {
        ensure!(scene.get("refused")?.status == 502);
        scene.explained_at("refused", one, &refused("no-listener"))?;
        scene.explained_at("refused", other, &refused("no-listener"))?;
        scene.fails("reset", &met("reset-by-backend", Some("ECONNRESET")))?;
    }
    scene.end().map(drop)
}

#[test]
fn a_failure_in_two_logs_is_one() -> Result<()> {
    let two = |config: &mut Config| config.main = "error_log /dev/null error;".to_owned();
    fail_once_each(
        two,
        ["127.0.0.1:23910", "127.0.0.1:23911", "127.0.0.1:23912"],
    )
}

#[test]
fn a_line_is_found_among_all_that_debugging_writes() -> Result<()> {
    let debug = |config: &mut Config| config.level = "debug";
    fail_once_each(
        debug,
        ["127.0.0.1:23920", "127.0.0.1:23921", "127.0.0.1:23922"],
    )
}

/// A request fails like that at a backend that does so to its connections.
fn breaks_off(
    address: &str,
    ending: &str,
    upstream: impl Fn(Upstream) -> Upstream,
    expected: &Expected,
) -> Result<Option<Failure>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", address, "--ending", ending])?;
    let config = Config::of(vec![upstream(Upstream::new("app", address))]);
    let mut scene = Scene::new(&host, here, &config)?;
    // The beginning of a response reaches the client.
    let _ = scene.get("app");
    let failure = scene
        .explained("app", expected)
        .context(ending.to_owned())?;
    scene.end()?;
    Ok(Some(failure))
}

#[test]
fn without_buffers_a_response_that_breaks_off_is_a_failure_as_well() -> Result<()> {
    let closed = met("closed-by-backend", None);
    let reset = met("reset-by-backend", Some("ECONNRESET"));
    for (address, ending, expected) in [
        ("127.0.0.1:23930", "close-short", &closed),
        ("127.0.0.1:23931", "reset-short", &reset),
        ("127.0.0.1:23932", "close-midway", &closed),
        ("127.0.0.1:23933", "reset-midway", &reset),
    ] {
        let unbuffered = |upstream: Upstream| upstream.in_location("proxy_buffering off;");
        if let Some(failure) = breaks_off(address, ending, unbuffered, expected)? {
            ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
        }
    }
    Ok(())
}

#[test]
fn a_response_that_is_ended_within_its_protocol_is_ended_by_the_backend() -> Result<()> {
    let expected = met("closed-by-backend", None);
    for (address, ending, pass, words) in [
        ("127.0.0.1:23940", "fastcgi-end", "fastcgi_pass ", "FastCGI"),
        (
            "127.0.0.1:23941",
            "http2-refusal",
            "grpc_pass grpc://",
            "REFUSED_STREAM",
        ),
    ] {
        let passed = |upstream: Upstream| upstream.by(pass);
        if let Some(failure) = breaks_off(address, ending, passed, &expected)? {
            let verdict = &failure.verdict;
            ensure!(verdict.summary.contains(words), "{verdict:#?}");
            ensure!(verdict.confidence == "probable", "{verdict:#?}");
        }
    }
    Ok(())
}
