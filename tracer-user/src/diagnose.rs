//! From a case to its verdict.
//!
//! Diagnosis is pure: it reads nothing but the case and cannot fail. Each cause lives in a file
//! of its own and either recognises the case or passes; the causes are asked in a fixed order,
//! those that the evidence proves before those that remain once others are excluded.

pub mod coverage;

mod accept_queue_full;
mod addresses;
mod after;
mod backend_silent;
mod bind_failed;
mod bound_not_listening;
mod certificate;
mod closed_by_backend;
mod copies;
mod ended_in_protocol;
mod evidence;
mod fd_limit;
mod filtered;
mod finding;
mod firewall;
mod firewall_drop;
mod firewall_reject;
mod icmp;
mod icmp_unreachable;
mod keepalive_race;
mod listener_ended;
mod narration;
mod neighbour_unreachable;
mod neighbours;
mod nginx_limit;
mod no_answer;
mod no_listener;
mod no_live_upstreams;
mod other_netns;
mod packet_dropped;
mod policy_denied;
mod port_likeness;
mod ports_exhausted;
mod programs;
mod protocol_mismatch;
mod remote_refused;
mod reset_by_backend;
mod reset_unaccepted;
mod resolver_failed;
mod route_refused;
mod self_connect;
mod sent_again;
mod socket_aborted;
pub mod stale_dns;
mod surface;
mod syn_queue_full;
mod undetermined;
mod unix_socket;
mod wording;
mod wrong_address;
mod wrong_port;

#[cfg(test)]
mod any_case;
#[cfg(test)]
pub(crate) mod example;

use crate::case::{Case, Ending};
use crate::diagnose::finding::Finding;
use crate::verdict::{Diagnosis, Verdict};

/// One cause: what it says about the case, or null where it does not fit.
type Cause = fn(&Case) -> Option<Finding>;

/// The first cause that fits is the verdict. The order matters where one case shows the marks of
/// two: a listener that ended explains a closed port better than one on another address does.
const CAUSES: &[Cause] = &[
    policy_denied::told,
    fd_limit::fd_limit,
    bind_failed::bind_failed,
    unix_socket::unix_socket,
    self_connect::self_connect,
    ports_exhausted::ports_exhausted,
    route_refused::route_refused,
    policy_denied::policy_denied,
    socket_aborted::socket_aborted,
    reset_by_backend::reset_by_backend,
    firewall_reject::firewall_reject,
    firewall_drop::firewall_drop,
    firewall_drop::neighbour_filtered,
    neighbour_unreachable::neighbour_unreachable,
    icmp_unreachable::icmp_unreachable,
    accept_queue_full::accept_queue_full,
    syn_queue_full::syn_queue_full,
    packet_dropped::packet_dropped,
    listener_ended::listener_ended,
    bound_not_listening::bound_not_listening,
    wrong_address::wrong_address,
    other_netns::other_netns,
    wrong_port::wrong_port,
    no_listener::no_listener,
    remote_refused::remote_refused,
    no_answer::no_answer,
    accept_queue_full::perhaps_full,
    packet_dropped::perhaps_dropped,
];

/// The same for a connection that stood.
const CAUSES_AFTER_CONNECT: [Cause; 12] = [
    socket_aborted::socket_aborted,
    filtered::after_connect,
    accept_queue_full::after_connect,
    reset_unaccepted::reset_unaccepted,
    nginx_limit::nginx_limit,
    certificate::certificate,
    ended_in_protocol::ended_in_protocol,
    protocol_mismatch::protocol_mismatch,
    keepalive_race::keepalive_race,
    reset_by_backend::after_connect,
    closed_by_backend::closed_by_backend,
    backend_silent::backend_silent,
];

/// The same where nginx dialled nobody.
const CAUSES_UNDIALLED: [Cause; 3] = [
    no_live_upstreams::no_live_upstreams,
    resolver_failed::resolver_failed,
    nginx_limit::nginx_limit,
];

/// Says why the attempt failed, as far as the case's evidence carries.
pub fn diagnose(case: &Case) -> Diagnosis {
    let finding = causes(case)
        .iter()
        .find_map(|cause| cause(case))
        .unwrap_or_else(|| undetermined::undetermined(case));
    let finding = stale_dns::instead_of(finding, case);
    conclude(case, coverage::weaken(finding, case))
}

fn causes(case: &Case) -> &'static [Cause] {
    match case.attempt.ending {
        Ending::AfterConnect { .. } => &CAUSES_AFTER_CONNECT,
        Ending::Undialled { .. } => &CAUSES_UNDIALLED,
        _ => CAUSES,
    }
}

fn conclude(case: &Case, finding: Finding) -> Diagnosis {
    let namesakes = addresses::namesakes(case);
    let finding = finding.with(firewall::translator(case), Finding::because);
    Diagnosis {
        verdict: Verdict {
            code: finding.code,
            confidence: finding.confidence,
            summary: finding.summary,
            because: narration::because(case, &finding.because),
            ruled_out: finding.ruled_out,
            missing: finding.missing,
            fix: finding.fix,
            policy: finding.policy,
        },
        surface: surface::surface(case),
        errno: surface::errno(case),
        listener: finding
            .listener
            .filter(|listener| !namesakes.contains(&listener.netns)),
        ended: finding.ended,
        candidates: finding.candidates,
        rule: finding.rule,
        unix_listener: finding.unix_listener,
        unix_candidates: finding.unix_candidates,
        translated_to: addresses::translated_to(case),
    }
}
