//! The packet filter of one network namespace, read and never changed.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::case::Netns;
use crate::firewall::Ruleset;
use crate::host::netlink::{Conversation, NetlinkError};
use crate::host::netns::{Namespace, NetnsError, within};

mod attributes;
mod backend;
mod dump;
mod expressions;
pub mod ipset;
pub mod legacy;
mod limits;
mod message;
mod objects;
pub(super) mod presence;
mod sets;
mod tables;
pub mod text;

use dump::Dump;
use message::{Message, Request};

/// A ruleset that changes while it is read is read again up to so many times.
const TRIES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum PacketFilterError {
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// Asking all the same could load a module.
    #[error("cannot tell from /proc/kallsyms whether the kernel has nf_tables: {0}")]
    Presence(#[from] io::Error),
    #[error("cannot read the nftables ruleset of network namespace {netns}: {source}")]
    Netlink { netns: Netns, source: NetlinkError },
}

/// Every table of nftables in `namespace`, those of iptables-nft too; none where the kernel has
/// no nf_tables. Takes its time with large rulesets.
///
/// What is beyond the limits or changes faster than it can be read is told in
/// [`Ruleset::unread`].
pub fn read(namespace: &Namespace) -> Result<Ruleset, PacketFilterError> {
    let netns = namespace.inode;
    let Some(mut conversation) = converse(namespace)? else {
        return Ok(Ruleset {
            netns,
            ..Ruleset::default()
        });
    };
    let read = consistent(&mut conversation).map(|mut ruleset| {
        ruleset.netns = netns;
        ruleset
    });
    read.map_err(|source| PacketFilterError::Netlink { netns, source })
}

/// The generation of the namespace's nftables ruleset, which every change of it increases; null
/// where the kernel has no nf_tables. Costs a thread, a socket and one question.
pub fn generation(namespace: &Namespace) -> Result<Option<u32>, PacketFilterError> {
    let Some(mut conversation) = converse(namespace)? else {
        return Ok(None);
    };
    let generation = ask_generation(&mut conversation);
    generation
        .map(Some)
        .map_err(|source| PacketFilterError::Netlink {
            netns: namespace.inode,
            source,
        })
}

/// Opening the socket alone can load a module: it is done only where nf_tables is there, and
/// therewith all that it needs.
fn converse(namespace: &Namespace) -> Result<Option<Conversation>, PacketFilterError> {
    if !presence::nf_tables()? {
        return Ok(None);
    }
    let open = within(namespace, || Conversation::open(NETLINK_NETFILTER))?;
    open.map(Some).map_err(|source| PacketFilterError::Netlink {
        netns: namespace.inode,
        source,
    })
}

fn ask_generation(conversation: &mut Conversation) -> Result<u32, NetlinkError> {
    const ID: u16 = 1;
    conversation
        .ask(Message::asking(Request::Generation, 0))?
        .attributes()
        .u32(ID)
        .ok_or(NetlinkError::Malformed("no generation"))
}

fn consistent(conversation: &mut Conversation) -> Result<Ruleset, NetlinkError> {
    let mut before = ask_generation(conversation)?;
    steady(|| {
        let mut dump = Dump::default();
        let whole = dump.read(conversation)?;
        let generation = ask_generation(conversation)?;
        let changed = !whole || generation != before;
        before = generation;
        Ok(Attempt {
            dump,
            generation,
            changed,
        })
    })
}

struct Attempt {
    dump: Dump,
    /// After the reading.
    generation: u32,
    /// Something changed underneath.
    changed: bool,
}

/// Reads until nothing has changed underneath, up to [`TRIES`] times.
fn steady<E>(mut read: impl FnMut() -> Result<Attempt, E>) -> Result<Ruleset, E> {
    let mut attempt = read()?;
    for _ in 1..TRIES {
        if !attempt.changed {
            break;
        }
        attempt = read()?;
    }
    if attempt.changed {
        attempt.dump.unread.push(format!(
            "the nftables ruleset changed while it was read, {TRIES} times"
        ));
    }
    Ok(attempt.dump.into_ruleset(attempt.generation))
}

#[cfg(test)]
mod tests;
