//! What is read from the host, and never changed: network namespaces, their sockets, addresses,
//! routes and neighbours, and the processes behind them.
//!
//! Everything here is synchronous and may take milliseconds: an event loop runs it on a worker
//! thread. Nothing here keeps a network namespace alive for longer than the value that reads it
//! lives: a container's interfaces and addresses go away with the last reference to its
//! namespace, and a tool that held one would change what it watches.

pub mod addresses;
pub mod audit;
pub mod conntrack;
pub mod descriptors;
mod diag;
pub mod facts;
pub mod icmp;
pub mod iptables;
pub mod kallsyms;
pub mod links;
pub mod listeners;
pub mod neighbours;
pub mod netlink;
pub mod netns;
pub mod open_files;
pub mod owners;
pub mod packet_filter;
pub mod peers;
pub mod policies;
pub mod ports;
pub mod procfile;
pub mod programs;
pub mod resolve;
pub mod routes;
mod socket_filter;
pub mod sockets;
pub mod table;
#[cfg(test)]
mod testing;
pub mod unix;
pub mod unix_listeners;
pub mod unix_path;
pub mod unix_sockets;
pub mod visit;
pub mod waiting;
