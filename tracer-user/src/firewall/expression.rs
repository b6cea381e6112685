//! Conditions and statements of rules, as the kernel executes them.

use crate::case::Action;

/// A 32-bit word of the register file: `NFT_REG_1` is word 0, `NFT_REG_2` word 4,
/// `NFT_REG32_00` word 0, `NFT_REG32_01` word 1 (`nft_parse_register`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u8);

/// How many words the register file has (`NFT_REG32_COUNT`).
pub const REGISTERS: usize = 16;

/// One expression of an nftables rule, or one part of an iptables rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Bytes of the packet.
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Register,
    },
    /// `NFT_META_*`.
    Meta {
        key: u32,
        to: Register,
    },
    /// `NFT_CT_*`; the direction is 0 original, 1 reply, null where the key has none.
    Conntrack {
        key: u32,
        direction: Option<u8>,
        to: Register,
    },
    /// `NFT_FIB_RESULT_*` with `NFTA_FIB_F_*`.
    Fib {
        result: u32,
        flags: u32,
        to: Register,
    },
    /// A value that no evaluation can know: `numgen`, `hash`, `osf`, `socket`, `exthdr`, ...
    Unknowable {
        name: String,
        to: Register,
        length: u32,
    },
    Immediate {
        data: Vec<u8>,
        to: Register,
    },
    Compare {
        operator: Operator,
        from: Register,
        data: Vec<u8>,
    },
    Range {
        negated: bool,
        from: Register,
        low: Vec<u8>,
        high: Vec<u8>,
    },
    /// `(from & mask) ^ xor`.
    Mask {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Over `length` bytes, as `nft_bitwise_eval_lshift` and `_rshift` do it.
    Shift {
        from: Register,
        to: Register,
        length: u32,
        left: bool,
        bits: u32,
    },
    /// Swaps the bytes of each `size`-byte unit (`nft_byteorder_eval`).
    SwapBytes {
        from: Register,
        to: Register,
        length: u32,
        size: u32,
    },
    /// Into `to` where the set is a map of data; its verdict where it is a verdict map.
    Lookup {
        set: String,
        from: Register,
        to: Option<Register>,
        verdict: bool,
        negated: bool,
    },
    /// `add @set`, `update @set`: holds unless the set is full or one of its statements fails.
    UpdateSet {
        set: String,
        statements: Vec<Expression>,
    },
    SetMark {
        from: Register,
    },
    SetConntrack {
        key: u32,
        from: Register,
    },
    /// Changes what no later condition of ours looks at: `log`, `notrack`, a counter, `meta
    /// priority set`, ...
    Statement {
        name: String,
    },
    /// Holds for some packets only, by a state that is not read: `limit`, `quota`, `connlimit`.
    Sometimes {
        name: String,
    },
    /// `jump`, `goto`, `return`, `accept`, `drop`.
    Verdict(Verdict),
    /// `reject`, `queue`, `dnat`, `redirect`, `masquerade` and the like: ends the rules.
    Terminal(Action),
    /// `dnat`, `redirect` with the address and port in registers.
    Nat {
        destination: bool,
        redirect: bool,
        address: Option<Register>,
        port: Option<Register>,
    },
    /// The IP header part of an iptables rule.
    Header(Header),
    /// A match of iptables, by extension.
    Match(Extension),
    /// A target of iptables, by extension.
    Target(Extension),
    /// An expression that this tool does not know: whether it holds is not known.
    Unknown {
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadBase {
    LinkLayer,
    Network,
    Transport,
    /// Beyond the TCP header, or an encapsulated packet.
    Inner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(String),
    Goto(String),
}

/// `struct ipt_ip` or `struct ip6t_ip6`: addresses with masks, interfaces with masks, protocol,
/// and which of them are inverted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Address and mask, four or sixteen bytes each; null for any.
    pub source: Option<(Vec<u8>, Vec<u8>)>,
    pub destination: Option<(Vec<u8>, Vec<u8>)>,
    /// Name; a trailing `+` matches any ending.
    pub input: Option<String>,
    pub output: Option<String>,
    /// Null for any.
    pub protocol: Option<u8>,
    pub not_source: bool,
    pub not_destination: bool,
    pub not_input: bool,
    pub not_output: bool,
    pub not_protocol: bool,
    /// `-f`: fragments only, which a SYN is not.
    pub fragments: bool,
    pub not_fragments: bool,
}

/// A match or target of iptables as the kernel holds it: `struct xt_entry_match` with the
/// extension's own structure (`include/uapi/linux/netfilter/xt_*.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub name: String,
    pub revision: u8,
    pub data: Vec<u8>,
}
