//! Kernel functions by address: which netfilter hook a stack was in, and where a packet was
//! freed.
//!
//! `/proc/kallsyms` has some 200,000 lines. Only the functions named here are kept; the name of
//! any other is looked up by reading the file again, some tens of milliseconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use tracer_common::Code;

use crate::case::Hook;

const PATH: &str = "/proc/kallsyms";

/// No function of the kernel is longer: an address further behind a symbol is not in it.
const LONGEST: u64 = 256 << 10;

/// The functions that run a hook's rules on the packet they are given (`NF_HOOK` and its kin),
/// for IPv4, IPv6, ARP, bridges, bridges that call the hooks of IP, and devices. Receiving in
/// batches has functions of its own.
const HOOKS: [(&str, Hook); 37] = [
    ("__netif_receive_skb_core", Hook::Ingress),
    ("ip_rcv", Hook::Prerouting),
    ("ip_list_rcv", Hook::Prerouting),
    ("ip_sublist_rcv", Hook::Prerouting),
    ("ipv6_rcv", Hook::Prerouting),
    ("ipv6_list_rcv", Hook::Prerouting),
    ("ip6_sublist_rcv", Hook::Prerouting),
    ("br_handle_frame", Hook::Prerouting),
    ("br_nf_pre_routing", Hook::Prerouting),
    ("br_nf_pre_routing_ipv6", Hook::Prerouting),
    ("ip_local_deliver", Hook::Input),
    ("ip6_input", Hook::Input),
    ("br_pass_frame_up", Hook::Input),
    ("arp_rcv", Hook::Input),
    ("ip_forward", Hook::Forward),
    ("ip6_forward", Hook::Forward),
    ("__br_forward", Hook::Forward),
    ("br_nf_forward_ip", Hook::Forward),
    ("br_nf_forward_arp", Hook::Forward),
    ("br_nf_forward", Hook::Forward),
    ("__ip_local_out", Hook::Output),
    ("ip_local_out", Hook::Output),
    ("__ip6_local_out", Hook::Output),
    ("ip6_local_out", Hook::Output),
    ("ip6_xmit", Hook::Output),
    ("ndisc_send_skb", Hook::Output),
    ("arp_xmit", Hook::Output),
    ("ip_output", Hook::Postrouting),
    ("ip_mc_output", Hook::Postrouting),
    ("ip6_output", Hook::Postrouting),
    ("br_forward_finish", Hook::Postrouting),
    ("br_nf_post_routing", Hook::Postrouting),
    ("nf_hook_direct_egress", Hook::Egress),
    ("nf_hook_egress", Hook::Egress),
    ("nf_hook_ingress", Hook::Ingress),
    ("nf_ingress", Hook::Ingress),
    ("__dev_queue_xmit", Hook::Egress),
];

/// Functions of packet filters: which of them stand on a stack tells the family and the tool of
/// the rule.
const FILTERS: [&str; 26] = [
    "nf_hook_slow",
    "nf_hook_slow_list",
    "nf_queue",
    "nft_do_chain",
    "nft_do_chain_inet",
    "nft_do_chain_inet_ingress",
    "nft_do_chain_ipv4",
    "nft_do_chain_ipv6",
    "nft_do_chain_bridge",
    "nft_do_chain_netdev",
    "nft_do_chain_arp",
    "nft_reject_inet_eval",
    "nft_reject_ipv4_eval",
    "nft_reject_ipv6_eval",
    "nft_reject_bridge_eval",
    "nft_reject_netdev_eval",
    "nft_target_eval_xt",
    "nft_target_eval_bridge",
    "reject_tg",
    "reject_tg6",
    "ipt_do_table",
    "ip6t_do_table",
    "arpt_do_table",
    "ebt_do_table",
    "br_nf_hook_thresh",
    "nf_hook_run_bpf",
];

/// Functions in which packets of TCP are freed, known by name from the start.
const FREE: [&str; 50] = [
    // What the reader of a queue has dropped: which of them remains is up to the compiler.
    "nf_reinject",
    "nfqnl_reinject",
    "nfqnl_recv_verdict",
    "nfqnl_recv_verdict_batch",
    "veth_xdp_rcv_skb",
    "veth_xdp_rcv",
    "veth_poll",
    "veth_xmit",
    "br_dev_xmit",
    "do_xdp_generic",
    "netif_receive_generic_xdp",
    "sch_handle_ingress",
    "sch_handle_egress",
    "kfree_skb_list",
    "enqueue_to_backlog",
    "netif_rx_internal",
    "ip_finish_output",
    "ip6_finish_output",
    "ip_finish_output2",
    "ip6_finish_output2",
    "__neigh_event_send",
    "neigh_resolve_output",
    "neigh_connected_output",
    "neigh_invalidate",
    "arp_error_report",
    "ndisc_error_report",
    "ip_rcv_core",
    "ip6_rcv_core",
    "ip_rcv_finish_core",
    "ip_rcv_finish",
    "ip_list_rcv_finish",
    "ip6_pkt_drop",
    "ip_error",
    "ip_protocol_deliver_rcu",
    "ip6_protocol_deliver_rcu",
    "tcp_v4_rcv",
    "tcp_v6_rcv",
    "tcp_v4_do_rcv",
    "tcp_v6_do_rcv",
    "tcp_rcv_state_process",
    // What was sent is freed there, too.
    "__dev_kfree_skb_any",
    "__dev_kfree_skb_irq",
    "dev_kfree_skb_any_reason",
    "dev_kfree_skb_irq_reason",
    "net_tx_action",
    "napi_consume_skb",
    "ip6_rcv_finish",
    "ip6_rcv_finish_core",
    "ip_local_deliver_finish",
    "ip6_input_finish",
];

/// Functions that call for a reset.
const RESET: [&str; 8] = [
    "tcp_check_req",
    "tcp_disconnect",
    "tcp_abort",
    "tcp_keepalive_timer",
    "tcp_out_of_resources",
    "tcp_write_timer_handler",
    "__tcp_close",
    "tcp_close",
];

/// The functions that call the rules of a hook, and those that these rules run in: a hook of a
/// device or a bridge may run them without `nf_hook_slow` (`nf_hook_bridge_pre`).
const RUN_RULES: [&str; 18] = [
    "nf_hook_slow",
    "nf_hook_slow_list",
    "nf_queue",
    "nft_do_chain",
    "nft_do_chain_bridge",
    "nft_do_chain_netdev",
    "nft_reject_inet_eval",
    "nft_reject_ipv4_eval",
    "nft_reject_ipv6_eval",
    "nft_reject_bridge_eval",
    "nft_reject_netdev_eval",
    "nft_target_eval_xt",
    "reject_tg",
    "reject_tg6",
    "ipt_do_table",
    "ip6t_do_table",
    "arpt_do_table",
    "ebt_do_table",
];

/// Those of them that free what a rule drops, on kernels that give no reason.
const HOOK_RUNNERS: [&str; 2] = ["nf_hook_slow", "nf_hook_slow_list"];

#[derive(Debug, thiserror::Error)]
pub enum KallsymsError {
    #[error("cannot read {PATH}: {0}")]
    Unreadable(#[from] io::Error),
    #[error(
        "the kernel hides the addresses of its functions: set kernel.kptr_restrict below 2 and \
         run with CAP_SYSLOG to learn in which hook packets are dropped"
    )]
    Hidden,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    start: u64,
    /// The first address behind it.
    end: u64,
    name: &'static str,
    hook: Option<Hook>,
}

/// The functions of interest.
#[derive(Debug, Default)]
pub struct Kallsyms {
    /// By address.
    functions: Vec<Function>,
}

impl Kallsyms {
    /// Reads the file twice: symbols of modules come in no order, so that the end of a function
    /// is known only once all starts are.
    pub fn read() -> Result<Self, KallsymsError> {
        let mut functions = starts(open()?)?;
        if functions.is_empty() {
            return Err(KallsymsError::Hidden);
        }
        functions.sort_unstable_by_key(|function| function.start);
        ends(open()?, &mut functions)?;
        Ok(Self { functions })
    }

    /// The hook that was being run, from the kernel's stack, innermost frame first: the function
    /// that runs a hook is the one that called for its rules. Where another known function comes
    /// before these no hook was being run: a packet that passes a bridge or a veth pair goes
    /// through many of them in one stack.
    pub fn hook_of(&self, frames: &[u64]) -> Option<Hook> {
        let mut functions = frames.iter().filter_map(|frame| self.function(*frame));
        if !RUN_RULES.contains(&functions.next()?.name) {
            return None;
        }
        let caller = functions.find(|function| function.hook.is_some())?;
        // `__br_forward` runs the hook of forwarding for what came in by another port, and that of
        // output for what the bridge itself sends (`br_dev_xmit`).
        let sends = caller.name == "__br_forward"
            && functions
                .next()
                .is_some_and(|function| function.name == "br_dev_xmit");
        if sends {
            Some(Hook::Output)
        } else {
            caller.hook
        }
    }

    /// The functions of packet filters among the frames, the innermost first.
    pub fn filters_in(&self, frames: &[u64]) -> impl Iterator<Item = &'static str> {
        frames
            .iter()
            .filter_map(|frame| self.function(*frame))
            .map(|function| function.name)
            .filter(|name| FILTERS.contains(name) || name.starts_with("br_nf_"))
    }

    /// The name of the function that `address` is in, where it is one of interest.
    pub fn name_of(&self, address: u64) -> Option<&'static str> {
        self.function(address).map(|function| function.name)
    }

    /// Where the code lies that runs the rules of hooks and frees what these drop.
    pub fn code_of_hooks(&self) -> Vec<Code> {
        self.functions
            .iter()
            .filter(|function| HOOK_RUNNERS.contains(&function.name))
            .map(|function| Code {
                start: function.start,
                end: function.end,
            })
            .collect()
    }

    fn function(&self, address: u64) -> Option<&Function> {
        let after = self
            .functions
            .partition_point(|function| function.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address < function.end).then_some(function)
    }
}

fn open() -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(64 << 10, File::open(PATH)?))
}

fn starts(file: impl BufRead) -> io::Result<Vec<Function>> {
    let wanted: HashMap<&str, (&'static str, Option<Hook>)> = HOOKS
        .into_iter()
        .map(|(name, hook)| (name, (name, Some(hook))))
        .chain(
            FILTERS
                .into_iter()
                .chain(FREE)
                .chain(RESET)
                .map(|name| (name, (name, None))),
        )
        .collect();
    let mut functions = Vec::new();
    each_function(file, |start, name| {
        if let Some((name, hook)) = wanted.get(source_name(name)) {
            functions.push(Function {
                start,
                end: start + LONGEST,
                name,
                hook: *hook,
            });
        }
    })?;
    Ok(functions)
}

fn ends(file: impl BufRead, functions: &mut [Function]) -> io::Result<()> {
    each_function(file, |address, _| {
        let after = functions.partition_point(|function| function.start < address);
        if let Some(before) = after.checked_sub(1) {
            functions[before].end = functions[before].end.min(address);
        }
    })
}

/// Hands every function of the file to `each`. Hidden addresses are all zero.
fn each_function(mut file: impl BufRead, mut each: impl FnMut(u64, &str)) -> io::Result<()> {
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        if let Some((address, name)) = function_line(&line) {
            each(address, name);
        }
        line.clear();
    }
    Ok(())
}

/// A line is `ffffffff81000000 T name`, with a tab and `[module]` behind the names of modules.
fn function_line(line: &[u8]) -> Option<(u64, &str)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    let kind = fields.next()?;
    let name = fields.next()?;
    let function = matches!(kind, "T" | "t" | "W" | "w");
    (function && address != 0).then_some((address, name))
}

/// Compilers append `.constprop.0`, `.isra.0`, `.cold` and the like to the names of parts and
/// variants.
fn source_name(name: &str) -> &str {
    match name.find('.') {
        Some(0) | None => name,
        Some(dot) => &name[..dot],
    }
}

#[cfg(test)]
mod tests;
