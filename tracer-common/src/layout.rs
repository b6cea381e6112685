//! Where the fields of the running kernel's structures lie.
//!
//! rustc emits no CO-RE relocations, so user space finds the offsets in the kernel's BTF and hands
//! them to the programs as a read-only global: the verifier then sees constants.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A field, argument or value that this kernel does not have.
pub const NONE: u32 = u32::MAX;

macro_rules! layout {
    ($($(#[$meta:meta])* $field:ident,)*) => {
        /// Byte offsets from the start of the structure that the name begins with; [`NONE`] where
        /// the kernel has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
        pub struct Layout { $($(#[$meta])* pub $field: u32,)* }

        impl Layout {
            /// Nothing known.
            pub const UNKNOWN: Self = Self { $($field: NONE,)* };
        }
    };
}

layout! {
    sock_family,
    sock_state,
    sock_dport,
    sock_daddr,
    sock_rcv_saddr,
    sock_v6_daddr,
    sock_v6_rcv_saddr,
    sock_net,
    sock_bound_dev_if,
    /// Byte that holds the bit `skc_ipv6only`.
    sock_ipv6only,
    /// The bit in that byte, as a mask.
    sock_ipv6only_mask,
    sock_err,
    /// `sk_protocol` is 16 bits wide since 5.6; a bit field before.
    sock_protocol,
    sock_socket,
    sock_shutdown,
    inet_sport,
    tcp_snd_una,
    tcp_lsndtime,
    tcp_snd_nxt,
    tcp_write_seq,
    tcp_bytes_sent,
    tcp_bytes_received,
    tcp_total_retrans,
    tcp_srtt_us,
    /// `icsk_ack.lrcvtime` of the `inet_connection_sock` that a `tcp_sock` begins with.
    tcp_lrcvtime,
    net_inum,
    /// From a `struct socket` to the inode number of its `socket_alloc`.
    socket_inode,
    skb_head,
    skb_network_header,
    skb_protocol,
    skb_dev,
    skb_sk,
    skb_mark,
    skb_iif,
    /// `_skb_refdst`: the route, with flags in its lowest bits.
    skb_refdst,
    dst_dev,
    rtable_type,
    rt6_flags,
    /// `net->nft.base_seq`.
    net_nft_generation,
    /// From a `struct socket` to its `struct sock`.
    socket_sock,
    task_files,
    files_fdt,
    fdtable_fd,
    file_private_data,
    netdev_net,
    netdev_ifindex,
    task_tgid,
    task_pid,
    task_flags,
    task_exit_code,
    task_signal,
    signal_group_exit_code,
    /// Index of the argument of `kfree_skb` that is an `enum skb_drop_reason`.
    kfree_reason_argument,
    /// `SKB_DROP_REASON_NETFILTER_DROP`.
    drop_by_netfilter,
    /// Index of the argument of `tcp_send_reset` that is an `enum sk_rst_reason`.
    reset_reason_argument,
    /// Index of the argument of `tcp_retransmit_skb` that is the result of sending.
    retransmit_error_argument,
    /// Index of the argument of `sched_process_exit` that tells whether the whole process ends.
    exit_group_argument,
    /// 1 where the first argument of `mark_victim` is a `task_struct`, 0 where it is a pid.
    victim_is_task,
    /// `SKB_DROP_REASON_NO_SOCKET`.
    drop_without_socket,
    /// 1 where a task can be preempted inside a program at a tracepoint, which then is refused to
    /// the others of its processor; 0 where not.
    preemptible,
    /// 1 where attempts that fail alike may be counted instead of told, 0 where each is wanted.
    fold,
    /// 1 where new processes called like an nginx are followed, 0 where `--pid` narrows.
    follow_new,
    /// Our own process id, by which programs that are tried know our calls.
    own_process,
}

/// Byte offsets in the structures of nftables, of a kernel whose rules lie one behind the other
/// with the chain behind the last (`struct nft_rule_dp_last`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct RuleLayout {
    /// 1 where the rest is known.
    pub known: u32,
    /// From the header of the last rule to the pointer to its chain.
    pub last_chain: u32,
    pub chain_name: u32,
    pub chain_table: u32,
    pub table_name: u32,
    /// The 32 bits that hold `nft_table.family`, and how far to shift them; it has 6 bits.
    pub table_family: u32,
    pub table_family_shift: u32,
}
