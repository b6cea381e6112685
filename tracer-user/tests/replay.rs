//! Recorded cases get the verdicts that are true of them, without root and without a kernel.
//!
//! Every file of `replay/` holds a case and what must be said about it. Words stand for
//! sentences: each must occur in the summary, or in some sentence of that list.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use whyrefused::case::{Case, Death};
use whyrefused::diagnose::diagnose;
use whyrefused::event::Surface;
use whyrefused::report::unix_text;
use whyrefused::verdict::{Code, Confidence, Diagnosis};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    /// What is wrong in this recording.
    about: String,
    case: Case,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    code: Code,
    confidence: Confidence,
    surface: Surface,
    errno: Option<i32>,
    summary: Vec<String>,
    because: Vec<String>,
    ruled_out: Vec<Code>,
    missing: Vec<String>,
    fix: Vec<String>,
    translated_to: Option<SocketAddr>,
    /// Which security policy denied the call.
    policy: Option<String>,
    /// Address of the listener that the verdict points at; unchecked where absent.
    listener: Option<String>,
    /// How that listener ended.
    ended: Option<String>,
    /// Addresses in order; unchecked where absent.
    candidates: Option<Vec<String>>,
    /// The rule that did it; none must be named where absent.
    rule: Option<ExpectedRule>,
}

/// How the owner of a rule would point at it.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct ExpectedRule {
    chain: String,
    handle: Option<u64>,
    position: Option<u64>,
    #[serde(default)]
    policy: bool,
    manager: Option<String>,
    /// How many others fit as well.
    #[serde(default)]
    alternatives: usize,
}

#[test]
fn every_recorded_case_gets_the_verdict_that_is_true_of_it() -> Result<()> {
    let mut wrong = Vec::new();
    let recordings = recordings()?;
    ensure!(
        recordings.len() >= 200,
        "only {} recordings",
        recordings.len()
    );
    for path in recordings {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let recording = read(&path)?;
        let diagnosis = diagnose(&recording.case);
        let differences = differences(&recording.expect, &diagnosis);
        if !differences.is_empty() {
            wrong.push(format!(
                "{name} ({}): {}\n  {:#?}",
                recording.about,
                differences.join("; "),
                diagnosis.verdict
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_recording_survives_being_written_again() -> Result<()> {
    for path in recordings()? {
        let case = read(&path)?.case;
        let again: Case = serde_json::from_str(&serde_json::to_string(&case)?)?;
        ensure!(
            case == again,
            "{} changes when it is written",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn every_verdict_names_evidence_and_never_rules_itself_out() -> Result<()> {
    for path in recordings()? {
        let verdict = diagnose(&read(&path)?.case).verdict;
        let name = path.display();
        ensure!(verdict.because.len() >= 2, "{name}: too little evidence");
        ensure!(
            verdict
                .ruled_out
                .iter()
                .all(|ruled| ruled.code != verdict.code),
            "{name}: {} is ruled out by itself",
            verdict.code
        );
        ensure!(
            verdict.code == Code::Undetermined || !verdict.fix.is_empty(),
            "{name}: no fix"
        );
        ensure!(
            verdict.code != Code::Undetermined || !verdict.missing.is_empty(),
            "{name}: undetermined without saying what is missing"
        );
    }
    Ok(())
}

fn recordings() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay");
    let mut paths = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Recording> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

fn differences(expected: &Expected, found: &Diagnosis) -> Vec<String> {
    let verdict = &found.verdict;
    let mut all = Vec::new();
    differ(&mut all, "code", &expected.code, &verdict.code);
    differ(
        &mut all,
        "confidence",
        &expected.confidence,
        &verdict.confidence,
    );
    differ(&mut all, "surface", &expected.surface, &found.surface);
    differ(&mut all, "errno", &expected.errno, &found.errno);
    differ(
        &mut all,
        "translated_to",
        &expected.translated_to,
        &found.translated_to,
    );
    differ(&mut all, "policy", &expected.policy, &verdict.policy);
    let ended = found
        .ended
        .as_ref()
        .map(|(_, death)| name(death).to_owned());
    differ(&mut all, "ended", &expected.ended, &ended);
    if expected.listener.is_some() {
        let inet = found.listener.as_ref().map(|l| l.address.to_string());
        let unix = found.unix_listener.as_ref().map(|s| unix_text(&s.name));
        let listener = inet.or(unix);
        differ(&mut all, "listener", &expected.listener, &listener);
    }
    if let Some(candidates) = &expected.candidates {
        differ(&mut all, "candidates", candidates, &addresses(found));
    }
    let rule = found.rule.as_ref().map(|rule| ExpectedRule {
        chain: rule.chain.clone(),
        handle: rule.handle,
        position: rule.position,
        policy: rule.policy,
        manager: rule.manager.clone(),
        alternatives: rule.alternatives.len(),
    });
    differ(&mut all, "rule", &expected.rule, &rule);
    lack(
        &mut all,
        "summary",
        &expected.summary,
        std::slice::from_ref(&verdict.summary),
    );
    lack(&mut all, "because", &expected.because, &verdict.because);
    lack(&mut all, "missing", &expected.missing, &verdict.missing);
    lack(&mut all, "fix", &expected.fix, &verdict.fix);
    for code in &expected.ruled_out {
        if !verdict.ruled_out.iter().any(|ruled| ruled.code == *code) {
            all.push(format!("{code} is not ruled out"));
        }
    }
    all
}

fn differ<T: PartialEq + std::fmt::Debug>(
    all: &mut Vec<String>,
    what: &str,
    expected: &T,
    found: &T,
) {
    if expected != found {
        all.push(format!("{what}: expected {expected:?}, found {found:?}"));
    }
}

fn lack(all: &mut Vec<String>, what: &str, words: &[String], sentences: &[String]) {
    for word in words {
        if !sentences.iter().any(|sentence| sentence.contains(word)) {
            all.push(format!("{what} lacks {word:?}"));
        }
    }
}

fn addresses(found: &Diagnosis) -> Vec<String> {
    let inet = found.candidates.iter().map(|l| l.address.to_string());
    let unix = found.unix_candidates.iter().map(|s| unix_text(&s.name));
    inet.chain(unix).collect()
}

fn name(death: &Death) -> &'static str {
    match death {
        Death::Closed => "closed",
        Death::Exited { .. } => "exited",
        Death::Killed { .. } => "killed",
        Death::OomKilled => "oom-killed",
    }
}
