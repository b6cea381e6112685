//! Any connection that stood, and any end of it.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::facts::{any_errno, any_netns, any_time};
use super::host::{any_death, any_process};
use crate::case::*;

pub(super) fn any_connection() -> BoxedStrategy<Connection> {
    let times = (
        any_time(),
        of(any_time()),
        of(any_time()),
        of(any_time()),
        any::<u64>(),
    );
    let numbers = (
        of(any::<u64>()),
        of(any::<u64>()),
        of(any::<u32>()),
        of(any::<u32>()),
    );
    (times, of(any_errno()), numbers)
        .prop_map(
            |((established, broken, sent, received, tick), error, numbers)| Connection {
                established,
                broken,
                error,
                bytes_sent: numbers.0,
                bytes_received: numbers.1,
                last_sent: sent,
                last_received: received,
                tick,
                unacknowledged: numbers.2,
                unsent: numbers.3,
                retransmissions: numbers.2,
                round_trip_us: numbers.3,
            },
        )
        .boxed()
}

pub(super) fn any_ending_after_connect() -> BoxedStrategy<Ending> {
    let phase = prop::sample::select(vec![
        Phase::Connecting,
        Phase::Handshake,
        Phase::Sending,
        Phase::AwaitingResponse,
        Phase::ReadingResponse,
        Phase::Proxying,
    ]);
    let met = prop::sample::select(vec![
        Met::SocketError,
        Met::ReceiveError,
        Met::SendError,
        Met::Closed,
        Met::EndedInProtocol,
        Met::Timeout,
        Met::Tls,
        Met::Malformed,
        Met::TooBig,
    ]);
    let errno = of(prop_oneof![Just(libc::ECONNRESET), any_errno()]);
    let cause = prop::sample::select(vec![
        Undialled::NoLiveUpstreams,
        Undialled::Unresolved,
        Undialled::OutOfConnections,
    ]);
    prop_oneof![
        (phase, met, errno).prop_map(|(phase, met, errno)| Ending::AfterConnect {
            phase,
            met,
            errno
        }),
        cause.prop_map(|cause| Ending::Undialled { cause }),
    ]
    .boxed()
}

pub(super) fn any_peer_ended() -> BoxedStrategy<Fact> {
    let how = prop::sample::select(vec![
        PeerEnd::Closed,
        PeerEnd::Reset,
        PeerEnd::ResetInAnswer,
        PeerEnd::RequestFiltered,
        PeerEnd::ResponseFiltered,
    ]);
    let reason = of(prop::sample::select(vec![
        "TCP_STATE",
        "TCP_ABORT_ON_CLOSE",
        "INVALID_SYN",
        "NO_SOCKET",
    ]));
    (
        how,
        any_netns(),
        reason,
        any::<bool>(),
        any::<bool>(),
        of(any_death()),
    )
        .prop_map(|(how, netns, reason, accepted, listening, death)| {
            Fact::PeerEnded(PeerEnded {
                how,
                netns,
                reason: reason.map(str::to_owned),
                pid: 977,
                comm: "app".to_owned(),
                accepted,
                listening,
                exit_code: death.is_some().then_some(9),
                death,
            })
        })
        .boxed()
}

pub(super) fn any_peer() -> BoxedStrategy<Peer> {
    let state = prop::sample::select(vec!["ESTABLISHED", "CLOSE_WAIT", "SYN_RECV", ""]);
    let activity = of(prop_oneof![
        prop::sample::select(vec!['R', 'S', 'D', 'T']),
        any::<char>()
    ]);
    (
        any_netns(),
        state,
        any::<bool>(),
        any::<u32>(),
        vec(any_process(), 0..2),
        activity,
    )
        .prop_map(|(netns, state, accepted, unread, owners, activity)| Peer {
            netns,
            state: state.to_owned(),
            accepted,
            unread,
            owners,
            activity,
        })
        .boxed()
}

pub(super) fn any_earlier() -> BoxedStrategy<Earlier> {
    (any_time(), of("\\PC{0,6}"), of("[a-z-]{0,9}"), "\\PC{0,9}")
        .prop_map(|(at, server, code, summary)| Earlier {
            at,
            server,
            code,
            summary,
        })
        .boxed()
}
