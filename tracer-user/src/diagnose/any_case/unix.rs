//! Anything that may have been read of a Unix socket.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::facts::{any_netns, any_time};
use super::host::{any_death, any_process};
use crate::case::*;

pub(super) fn any_unix() -> BoxedStrategy<UnixFacts> {
    let ended = (any_socket(), any_time(), any_death(), any::<bool>()).prop_map(
        |(socket, at, death, witnessed)| EndedUnixListener {
            socket,
            at,
            death,
            witnessed,
        },
    );
    let candidate = (any_socket(), any_relation())
        .prop_map(|(socket, relation)| UnixCandidate { socket, relation });
    (
        of(any_credentials()),
        of(any_walk()),
        vec(any_socket(), 0..3),
        vec(candidate, 0..3),
        of(ended),
        of(any::<u32>()),
        vec("\\PC{0,6}", 0..2),
    )
        .prop_map(
            |(credentials, walk, bound, candidates, ended, somaxconn, unread)| UnixFacts {
                credentials,
                walk,
                bound,
                candidates,
                ended,
                somaxconn,
                unread,
            },
        )
        .boxed()
}

fn any_credentials() -> impl Strategy<Value = Credentials> {
    (any::<u32>(), vec(any::<u32>(), 0..3), of("\\PC{0,4}")).prop_map(|(uid, groups, user)| {
        Credentials {
            uid,
            groups,
            user,
            ..Credentials::default()
        }
    })
}

fn any_walk() -> impl Strategy<Value = Walk> {
    let end = (any_path(), 0..6).prop_map(|(path, which)| match which {
        0 => WalkEnd::Missing { path },
        1 => WalkEnd::NotADirectory { path },
        2 => WalkEnd::Loop { path },
        3 => WalkEnd::TooLong { path },
        4 => WalkEnd::Unread {
            path,
            why: String::new(),
        },
        _ => WalkEnd::Found,
    });
    (vec(any_step(), 0..4), end, any::<bool>()).prop_map(|(steps, end, other_root)| Walk {
        steps,
        end,
        other_root,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(FileKind::Directory),
        Just(FileKind::Socket),
        Just(FileKind::Regular),
        any_path().prop_map(FileKind::Symlink),
    ];
    let refusal = (
        select(vec![Access::Search, Access::Write, Access::Follow]),
        select(vec![
            RefusedBy::Owner,
            RefusedBy::Group,
            RefusedBy::Other,
            RefusedBy::AclUser,
            RefusedBy::AclMask,
            RefusedBy::ProtectedSymlinks,
        ]),
    )
        .prop_map(|(wanted, by)| Refusal { wanted, by });
    (
        (any_path(), kind, any::<u32>(), any::<u32>(), any::<u32>()),
        (of("\\PC{0,4}"), any::<bool>(), of(refusal), any::<i64>()),
        of(select(vec!["tmpfs", "nfs4", "fuse.sshfs"])),
    )
        .prop_map(
            |((path, kind, mode, uid, gid), (group, acl, refused, changed), filesystem)| Step {
                path,
                kind,
                mode,
                uid,
                gid,
                owner: group.clone(),
                group,
                acl,
                refused,
                filesystem: filesystem.map(str::to_owned),
                read_only: acl,
                changed,
            },
        )
}

fn any_path() -> impl Strategy<Value = String> {
    prop_oneof!["/[a-b./]{0,8}", "\\PC{0,6}"]
}

fn any_socket() -> impl Strategy<Value = UnixSocket> {
    let kind = select(vec![
        SocketKind::Stream,
        SocketKind::Datagram,
        SocketKind::Seqpacket,
    ]);
    let queue = (any::<u32>(), any::<u32>()).prop_map(|(length, limit)| Queue { length, limit });
    (
        vec(any::<u8>(), 0..8),
        kind,
        any::<bool>(),
        any::<bool>(),
        of(queue),
        any_netns(),
        vec(any_process(), 0..2),
        of(any::<char>()),
    )
        .prop_map(
            |(name, kind, listening, shut, queue, netns, owners, owner_state)| UnixSocket {
                name,
                kind,
                listening,
                shut,
                queue,
                netns,
                owners,
                owner_state,
            },
        )
}

fn any_relation() -> impl Strategy<Value = Relation> {
    (0..6, any::<bool>(), of("\\PC{0,6}")).prop_map(|(which, other_mounts, mounted)| match which {
        0 => Relation::SamePathElsewhere {
            other_mounts,
            mounted,
        },
        1 => Relation::Unlinked,
        2 => Relation::SameName,
        3 => Relation::SimilarName,
        4 => Relation::Abstract,
        _ => Relation::OtherNetns,
    })
}
