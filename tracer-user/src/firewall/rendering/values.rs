//! What is compared, and how its values are written.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Loaded;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Address,
    /// An address of which only a prefix counts, so many bits.
    Network(u32),
    /// The first bytes of an address that has so many.
    Leading(usize),
    /// `NFPROTO_*`
    Version,
    Protocol,
    /// In network byte order.
    Number,
    /// In the byte order of the host.
    HostNumber,
    Name,
    State,
    /// Bits that were named already, of which any is set or none.
    Bits,
    Bytes,
}

/// A field of ARP for IPv4 over Ethernet, as it goes before its value.
pub fn arp(offset: u32, length: u32) -> (String, Form) {
    let (words, form) = match (offset, length) {
        (0, 2) => ("htype", Form::Number),
        (4, 1) => ("hlen", Form::Number),
        (5, 1) => ("plen", Form::Number),
        (6, 2) => ("operation", Form::Number),
        (14, 4) => ("saddr ip", Form::Address),
        (24, 4) => ("daddr ip", Form::Address),
        _ => {
            let (offset, length) = (u64::from(offset) * 8, u64::from(length) * 8);
            return (format!("@nh,{offset},{length}"), Form::Bytes);
        }
    };
    (format!("arp {words}"), form)
}

impl Form {
    pub fn write(self, data: &[u8]) -> String {
        match (self, data) {
            (Self::Address, _) => address(data),
            (Self::Network(prefix), _) => format!("{}/{prefix}", address(data)),
            (Self::Leading(width), _) => {
                let mut whole = data.to_vec();
                whole.resize(width, 0);
                format!("{}/{}", address(&whole), data.len() * 8)
            }
            (Self::Version, [2]) => "ipv4".to_owned(),
            (Self::Version, [10]) => "ipv6".to_owned(),
            (Self::Protocol, [6, ..]) => "tcp".to_owned(),
            (Self::Protocol, [17, ..]) => "udp".to_owned(),
            (Self::Protocol, [number, ..]) => number.to_string(),
            (Self::Number, _) if data.len() <= 8 => big(data).to_string(),
            (Self::HostNumber | Self::State, _) if data.len() <= 8 => {
                let number = host(data);
                if self == Self::State {
                    return state(number);
                }
                number.to_string()
            }
            (Self::Name, _) => {
                let end = data.iter().position(|byte| *byte == 0);
                let name = &data[..end.unwrap_or(data.len())];
                let any = if end.is_none() { "*" } else { "" };
                format!("\"{}{any}\"", String::from_utf8_lossy(name))
            }
            _ => hexadecimal(data),
        }
    }

    /// A value of which only the bits of `mask` count.
    pub fn masked(self, words: &str, mask: &[u8]) -> Loaded {
        let (words, form) = match self {
            Self::Address => {
                let prefix = mask.iter().map(|byte| byte.count_ones()).sum();
                (words.to_owned(), Self::Network(prefix))
            }
            Self::State => (format!("{words} {}", state(host(mask))), Self::Bits),
            Self::HostNumber => (format!("{words} & {}", host(mask)), self),
            form => (format!("{words} & {}", hexadecimal(mask)), form),
        };
        Loaded { words, form }
    }
}

fn big(data: &[u8]) -> u64 {
    data.iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn host(data: &[u8]) -> u64 {
    let mut bytes = data.to_vec();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    big(&bytes)
}

fn hexadecimal(data: &[u8]) -> String {
    data.iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn address(data: &[u8]) -> String {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string());
    let v6 = || Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string());
    v4().or_else(v6).unwrap_or_else(|| hexadecimal(data))
}

/// Bits of `NF_CT_STATE_BIT`.
fn state(bits: u64) -> String {
    const STATES: [(u64, &str); 5] = [
        (1, "invalid"),
        (2, "established"),
        (4, "related"),
        (8, "new"),
        (64, "untracked"),
    ];
    let names: Vec<&str> = STATES
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return bits.to_string();
    }
    names.join(",")
}

/// `NFT_META_*`
pub fn meta(key: u32) -> Loaded {
    let (words, form) = match key {
        1 => ("meta protocol", Form::Bytes),
        3 => ("meta mark", Form::HostNumber),
        4 => ("iif", Form::HostNumber),
        5 => ("oif", Form::HostNumber),
        6 => ("iifname", Form::Name),
        7 => ("oifname", Form::Name),
        10 => ("meta skuid", Form::HostNumber),
        11 => ("meta skgid", Form::HostNumber),
        15 => ("meta nfproto", Form::Version),
        16 => ("meta l4proto", Form::Protocol),
        _ => ("[meta]", Form::Bytes),
    };
    Loaded {
        words: words.to_owned(),
        form,
    }
}

/// `NFT_CT_*`
pub fn conntrack(key: u32) -> Loaded {
    let (words, form) = match key {
        0 => ("ct state", Form::State),
        2 => ("ct status", Form::HostNumber),
        3 => ("ct mark", Form::HostNumber),
        _ => ("[ct]", Form::Bytes),
    };
    Loaded {
        words: words.to_owned(),
        form,
    }
}
