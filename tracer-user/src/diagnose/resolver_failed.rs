//! `resolver-failed`: nginx could not resolve the upstream's name.

use crate::case::{Case, Ending, Undialled};
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

pub(super) fn resolver_failed(case: &Case) -> Option<Finding> {
    let Ending::Undialled {
        cause: Undialled::Unresolved,
    } = case.attempt.ending
    else {
        return None;
    };
    let name = case.attempt.upstream_name.as_deref().unwrap_or("(unnamed)");
    let message = case
        .log
        .as_ref()
        .and_then(|line| line.message.as_deref())
        .unwrap_or_default();
    let (why, fix) = cause(message);
    let finding = Finding::new(
        Code::ResolverFailed,
        Confidence::Certain,
        format!("nginx could not resolve {name}: {why}; no connection was tried"),
    );
    let finding = case.earlier.iter().fold(finding, |finding, earlier| {
        let server = earlier.server.as_deref().unwrap_or("the resolver");
        finding.because_at(
            earlier.at,
            format!("asking {server} failed: {}", earlier.summary),
        )
    });
    Some(finding.fix(fix))
}

/// By the texts of `ngx_resolver_strerror`.
fn cause(message: &str) -> (&'static str, &'static str) {
    let has = |words: &str| message.contains(words);
    if has("no resolver defined") {
        (
            "its configuration names no resolver",
            "add `resolver ADDRESS;` to the http, server or location block: a name in a variable is resolved at run time",
        )
    } else if has("Operation timed out") {
        (
            "the resolver did not answer in time",
            "check that the address of the `resolver` directive answers: `dig @ADDRESS NAME`",
        )
    } else if has("Host not found") {
        (
            "the resolver says that there is no such name",
            "correct the name, or the record in DNS; /etc/hosts and search domains do not count for nginx's resolver",
        )
    } else if has("Server failure") {
        (
            "the resolver failed itself (SERVFAIL)",
            "ask the resolver directly: `dig @ADDRESS NAME`; see its log",
        )
    } else if has("refused") {
        (
            "the resolver refuses to answer (REFUSED)",
            "let the resolver answer queries of this host",
        )
    } else {
        (
            "the resolver gave no address",
            "ask the resolver directly: `dig @ADDRESS NAME`",
        )
    }
}
