//! The sets of `ipset` that rules refer to.
//!
//! A request for `ipset` loads its module where it is missing (`nfnetlink_rcv_msg`). A rule with
//! `-m set` can stand only where the module is loaded, so it is asked only for sets that rules
//! name.

use std::collections::BTreeSet;

use netlink_packet_core::{DefaultNla, NLA_F_NET_BYTEORDER, NLA_TYPE_MASK, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    NetfilterSubsystem,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::firewall::ip_set::{IpSet, IpSets};
use crate::firewall::ruleset::Table;
use crate::firewall::xt::{changed_sets, tested_sets};
use crate::host::netlink::{Conversation, More, NetlinkError};
use crate::host::netns::{Namespace, NetnsError, within};

mod decode;

use decode::Attribute;

const NFNL_SUBSYS_IPSET: u8 = 6;
const IPSET_CMD_LIST: u8 = 7;
const IPSET_CMD_GET_BYINDEX: u8 = 15;

const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_INDEX: u16 = 11;

/// The version that knows sets by index, since Linux 4.19.
const PROTOCOL: u8 = 7;

/// So many sets are read, those in lists included.
const SETS: usize = 256;

/// So many members of all sets are read, which take some 40 MB.
const MEMBERS: usize = 1 << 19;

/// The sets that `-m set` in these tables looks packets up in, and in words what could not be
/// read.
pub fn sets(namespace: &Namespace, tables: &[Table]) -> (IpSets, Vec<String>) {
    let wanted = tested_sets(tables);
    if wanted.is_empty() {
        return (IpSets::new(), Vec::new());
    }
    let read = match within(namespace, || here(wanted)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(NetnsError::Vanished(_)) => Ok((IpSets::new(), Vec::new())),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok((mut sets, unread)) => {
            for index in changed_sets(tables) {
                if let Some(set) = sets.get_mut(&index) {
                    set.uncertain = true;
                }
            }
            (sets, unread)
        }
        Err(error) => (IpSets::new(), vec![format!("ipset: {error}")]),
    }
}

fn here(wanted: BTreeSet<u16>) -> Result<(IpSets, Vec<String>), NetlinkError> {
    let mut conversation = Conversation::open(NETLINK_NETFILTER)?;
    let mut reading = Reading {
        left: MEMBERS,
        ..Reading::default()
    };
    for index in wanted {
        match name_of(&mut conversation, index) {
            Ok(name) => reading.list(&mut conversation, &name),
            Err(error) => reading.unread.push(format!("ipset {index}: {error}")),
        }
    }
    Ok((reading.sets, reading.unread))
}

#[derive(Default)]
struct Reading {
    sets: IpSets,
    unread: Vec<String>,
    /// How many more members are read.
    left: usize,
}

impl Reading {
    /// Lists a set, and those that it holds where it is a list.
    fn list(&mut self, conversation: &mut Conversation, name: &str) {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            if self.sets.len() == SETS || self.sets.values().any(|set| set.name == name) {
                continue;
            }
            match list_one(conversation, &name, &mut self.left) {
                Ok(Some((index, set))) => {
                    names.extend(
                        set.members
                            .iter()
                            .filter_map(|m| m.set.as_deref().map(str::to_owned)),
                    );
                    self.sets.insert(index, set);
                }
                Ok(None) => self.unread.push(format!("ipset {name}: it is gone")),
                Err(error) => self.unread.push(format!("ipset {name}: {error}")),
            }
        }
    }
}

fn list_one(
    conversation: &mut Conversation,
    name: &str,
    left: &mut usize,
) -> Result<Option<(u16, IpSet)>, NetlinkError> {
    let mut listed: Option<(u16, IpSet)> = None;
    let name = DefaultNla::new(IPSET_ATTR_SETNAME, with_nul(name));
    let consistent = conversation.dump(request(IPSET_CMD_LIST, name), |answer| {
        let attributes = attributes(&answer);
        if listed.is_none() {
            listed = decode::head(&attributes);
        }
        let Some((_, set)) = &mut listed else {
            return More::No;
        };
        let members = decode::members(&attributes);
        if members.len() > *left {
            set.uncertain = true;
            return More::No;
        }
        *left -= members.len();
        set.members.extend(members);
        More::Yes
    })?;
    if let Some((_, set)) = &mut listed {
        set.uncertain |= !consistent;
    }
    Ok(listed)
}

fn name_of(conversation: &mut Conversation, index: u16) -> Result<String, NetlinkError> {
    let index = DefaultNla::new(
        IPSET_ATTR_INDEX | NLA_F_NET_BYTEORDER,
        index.to_be_bytes().to_vec(),
    );
    let answer = conversation.ask(request(IPSET_CMD_GET_BYINDEX, index))?;
    decode::name(&attributes(&answer)).ok_or(NetlinkError::Malformed("an ipset without a name"))
}

fn with_nul(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

fn request(message_type: u8, attribute: DefaultNla) -> NetfilterMessage {
    let protocol = DefaultNla::new(IPSET_ATTR_PROTOCOL, vec![PROTOCOL]);
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0),
        NetfilterMessageInner::Other {
            subsys: NetfilterSubsystem::Other(NFNL_SUBSYS_IPSET),
            message_type,
            attributes: vec![protocol, attribute],
        },
    )
}

/// Kinds and values. The crate hands a value out by copying it only.
fn attributes(answer: &NetfilterMessage) -> Vec<Attribute> {
    let NetfilterMessageInner::Other { attributes, .. } = &answer.inner else {
        return Vec::new();
    };
    attributes
        .iter()
        .map(|attribute| {
            let mut value = vec![0; attribute.value_len()];
            attribute.emit_value(&mut value);
            (attribute.kind() & NLA_TYPE_MASK, value)
        })
        .collect()
}

#[cfg(test)]
mod tests;
