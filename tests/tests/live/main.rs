//! Every verdict on a real nginx, each with what looks like it beside it.
//!
//! The tests need root, nginx and a built `whyrefused` (`cargo xtask build`, or its path in
//! `WHYREFUSED_BIN`). Each stands in namespaces of its own and has ports of its own, for the tool
//! looks into every namespace of the host, so they run in parallel.

/// The name and address of an upstream on loopback, for each family.
macro_rules! loopback {
    ($port:literal) => {
        [
            ("four", concat!("127.0.0.1:", $port)),
            ("six", concat!("[::1]:", $port)),
        ]
    };
}

/// The name and address of an upstream in the far namespace, for each family.
macro_rules! far {
    ($port:literal) => {
        [
            ("four", concat!("10.1.0.2:", $port)),
            ("six", concat!("[fd01::2]:", $port)),
        ]
    };
}

/// An address on loopback, for each family.
macro_rules! addresses {
    ($port:literal) => {
        [concat!("127.0.0.1:", $port), concat!("[::1]:", $port)]
    };
}

mod addresses;
mod after_connect;
mod command_line;
mod commands;
mod crowds;
mod deaths;
mod demo;
mod eaters;
mod endings;
mod filter;
mod filter_hooks;
mod firewalls;
mod healthy;
mod healthy_connections;
mod kernel_types;
mod limits;
mod listeners;
mod log_lines;
mod log_only;
mod look_alikes;
mod mandatory;
mod namespaces;
mod neighbours;
mod policies;
mod protocols;
mod queues;
mod recoveries;
mod remote;
mod requests;
mod routes;
mod stale_dns;
mod timing;
mod unix_connections;
mod unix_sockets;
mod workers;
