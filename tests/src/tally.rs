//! Lines of JSON in the output of a test, by which runs on several kernels are tabulated: which
//! verdicts were asked for, what was told, and by which means.

use std::collections::BTreeMap;

use serde_json::json;

use crate::contract::{Session, Verdict};

/// What was told where the verdict `expected` was asked for; nothing, where no failure came.
pub fn verdict(expected: &str, told: Option<&Verdict>, as_expected: bool) {
    println!(
        "{}",
        json!({
            "expected": expected,
            "told": told.map(|verdict| &verdict.code),
            "confidence": told.map(|verdict| &verdict.confidence),
            "as_expected": as_expected,
        })
    );
}

/// The means by which a session makes each of its observations.
pub fn session(session: &Session) {
    let used: BTreeMap<_, _> = session
        .probes
        .iter()
        .filter_map(|probe| Some((&probe.observation, probe.via.as_ref()?)))
        .collect();
    println!("{}", json!({ "used": used }));
}
