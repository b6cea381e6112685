//! Finds the running kernel's fields for the programs.

use tracer_common::layout::{Layout, NONE, RuleLayout};

use super::Wishes;
use crate::btf::Btf;

/// The offsets and argument positions of this kernel.
pub fn resolve(btf: &Btf, wishes: Wishes) -> Layout {
    let at = |structure: &str, path: &str| btf.field(structure, path).map_or(NONE, |f| f.offset());
    let ipv6only = btf.field("sock", "__sk_common.skc_ipv6only");
    Layout {
        sock_family: at("sock", "__sk_common.skc_family"),
        sock_state: at("sock", "__sk_common.skc_state"),
        sock_dport: at("sock", "__sk_common.skc_dport"),
        sock_daddr: at("sock", "__sk_common.skc_daddr"),
        sock_rcv_saddr: at("sock", "__sk_common.skc_rcv_saddr"),
        sock_v6_daddr: at("sock", "__sk_common.skc_v6_daddr"),
        sock_v6_rcv_saddr: at("sock", "__sk_common.skc_v6_rcv_saddr"),
        // `possible_net_t` wraps the pointer in a structure of its own.
        sock_net: at("sock", "__sk_common.skc_net"),
        sock_bound_dev_if: at("sock", "__sk_common.skc_bound_dev_if"),
        sock_ipv6only: ipv6only.map_or(NONE, |field| field.offset()),
        sock_ipv6only_mask: ipv6only.map_or(0, |field| mask(field.bit_offset)),
        sock_err: at("sock", "sk_err"),
        sock_protocol: at("sock", "sk_protocol"),
        sock_shutdown: at("sock", "sk_shutdown"),
        sock_socket: at("sock", "sk_socket"),
        inet_sport: at("inet_sock", "inet_sport"),
        tcp_snd_una: at("tcp_sock", "snd_una"),
        tcp_lsndtime: at("tcp_sock", "lsndtime"),
        tcp_snd_nxt: at("tcp_sock", "snd_nxt"),
        tcp_write_seq: at("tcp_sock", "write_seq"),
        tcp_bytes_sent: at("tcp_sock", "bytes_sent"),
        tcp_bytes_received: at("tcp_sock", "bytes_received"),
        tcp_total_retrans: at("tcp_sock", "total_retrans"),
        tcp_srtt_us: at("tcp_sock", "srtt_us"),
        tcp_lrcvtime: at("inet_connection_sock", "icsk_ack.lrcvtime"),
        net_inum: at("net", "ns.inum"),
        socket_inode: at("socket_alloc", "vfs_inode.i_ino"),
        skb_head: at("sk_buff", "head"),
        skb_network_header: at("sk_buff", "network_header"),
        skb_protocol: at("sk_buff", "protocol"),
        skb_dev: at("sk_buff", "dev"),
        skb_sk: at("sk_buff", "sk"),
        skb_mark: at("sk_buff", "mark"),
        skb_iif: at("sk_buff", "skb_iif"),
        skb_refdst: at("sk_buff", "_skb_refdst"),
        dst_dev: at("dst_entry", "dev"),
        rtable_type: at("rtable", "rt_type"),
        rt6_flags: at("rt6_info", "rt6i_flags"),
        net_nft_generation: at("net", "nft.base_seq"),
        socket_sock: at("socket", "sk"),
        task_files: at("task_struct", "files"),
        files_fdt: at("files_struct", "fdt"),
        fdtable_fd: at("fdtable", "fd"),
        file_private_data: at("file", "private_data"),
        netdev_net: at("net_device", "nd_net"),
        netdev_ifindex: at("net_device", "ifindex"),
        task_tgid: at("task_struct", "tgid"),
        task_pid: at("task_struct", "pid"),
        task_flags: at("task_struct", "flags"),
        task_exit_code: at("task_struct", "exit_code"),
        task_signal: at("task_struct", "signal"),
        signal_group_exit_code: at("signal_struct", "group_exit_code"),
        kfree_reason_argument: argument(btf, "kfree_skb", "skb_drop_reason"),
        drop_by_netfilter: value(btf, "skb_drop_reason", "SKB_DROP_REASON_NETFILTER_DROP"),
        reset_reason_argument: argument(btf, "tcp_send_reset", "sk_rst_reason"),
        retransmit_error_argument: argument(btf, "tcp_retransmit_skb", "int"),
        exit_group_argument: argument(btf, "sched_process_exit", "bool"),
        victim_is_task: u32::from(argument(btf, "mark_victim", "task_struct") == 0),
        drop_without_socket: value(btf, "skb_drop_reason", "SKB_DROP_REASON_NO_SOCKET"),
        preemptible: u32::from(tracepoints_preempt(btf)),
        fold: u32::from(wishes.fold),
        follow_new: u32::from(wishes.follow_new),
        own_process: std::process::id(),
    }
}

/// Whether the tracepoint has an argument of that type.
pub fn has_argument(btf: &Btf, tracepoint: &str, type_name: &str) -> bool {
    argument(btf, tracepoint, type_name) != NONE
}

/// Whether a task can be preempted inside a program at a tracepoint: tracepoints are guarded by
/// the fast readers of SRCU, whose counters are `struct srcu_ctr`, and not by keeping the task from
/// being preempted (`__DECLARE_TRACE` of include/linux/tracepoint.h). Kernels before those readers
/// have the variable for tracepoints in idle tasks.
pub fn tracepoints_preempt(btf: &Btf) -> bool {
    btf.has_variable("tracepoint_srcu_srcu_data") && btf.has_structure("srcu_ctr")
}

/// The same of the structures of nftables; `None` where its module is not loaded, or rules do not
/// lead to their chain.
pub fn of_rules(kernel: &Btf) -> Option<RuleLayout> {
    let btf = kernel.with_module("nf_tables")?;
    let at = |structure, name| btf.field(structure, name).map(|field| field.offset());
    let family = btf.field("nft_table", "family")?;
    let word = family.bit_offset / 32 * 32;
    Some(RuleLayout {
        known: 1,
        last_chain: at("nft_rule_dp_last", "chain")?,
        chain_name: at("nft_chain", "name")?,
        chain_table: at("nft_chain", "table")?,
        table_name: at("nft_table", "name")?,
        table_family: word / 8,
        table_family_shift: family.bit_offset - word,
    })
}

/// The position of the tracepoint's argument of that type.
fn argument(btf: &Btf, tracepoint: &str, type_name: &str) -> u32 {
    btf.tracepoint(tracepoint)
        .and_then(|arguments| arguments.iter().position(|a| a.name == type_name))
        .map_or(NONE, |position| position as u32)
}

fn value(btf: &Btf, name: &str, enumerator: &str) -> u32 {
    let names = btf.enumerators(name).unwrap_or_default();
    let found = names.into_iter().find(|(_, name)| name == enumerator);
    found.map_or(NONE, |(value, _)| value)
}

/// The bit within its byte. Bit fields are counted from the least significant bit on
/// little-endian machines and from the most significant one on others.
fn mask(bit_offset: u32) -> u32 {
    if cfg!(target_endian = "little") {
        1 << (bit_offset % 8)
    } else {
        0x80 >> (bit_offset % 8)
    }
}
