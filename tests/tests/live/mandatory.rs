//! Policies that hold for the whole machine. `cargo xtask test --vm` boots a guest for the tests of
//! each module in here (`xtask/src/vm/flavour.rs`); elsewhere they are skipped.

mod apparmor;
mod selinux;

use anyhow::{Result, ensure};
use whyrefused_tests::contract::{Failure, Verdict};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Upstream;
use whyrefused_tests::scene::{Scene, denied};

/// Where nothing but routing refuses; two, for an upstream is named by its address.
const PROHIBITED: [&str; 2] = ["10.7.0.8", "10.7.0.9"];

fn ensure_policy(failure: &Failure, policy: &str, confidence: &str) -> Result<()> {
    let verdict = &failure.verdict;
    ensure!(
        verdict.policy.as_deref() == Some(policy) && verdict.confidence == confidence,
        "expected {policy}, {confidence}: {failure:#?}"
    );
    Ok(())
}

fn ensure_fix(verdict: &Verdict, words: &str) -> Result<()> {
    ensure!(
        verdict.fix.iter().any(|fix| fix.contains(words)),
        "no fix says {words:?}: {verdict:#?}"
    );
    Ok(())
}

fn prohibiting() -> Result<Namespace> {
    let here = Namespace::new()?;
    here.ip("route add prohibit 10.7.0.8/31")?;
    Ok(here)
}

/// Routing refused, and no policy is blamed.
fn ensure_routing(scene: &mut Scene, name: &str) -> Result<()> {
    let failure = scene.fails(name, &denied("route-refused", "EACCES"))?;
    ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    Ok(())
}

/// Before it passes a request on, the worker opens `file`.
fn opening(upstream: Upstream, file: &str) -> Upstream {
    upstream.in_location(&format!(
        "disable_symlinks on; if (-f {file}) {{ return 403; }}"
    ))
}
