//! What the kernel itself says of the age of a ruleset.

use std::fs;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::namespace::Namespace;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN`
const GET_GENERATION: u16 = 10 << 8 | 16;
const NLM_F_REQUEST: u16 = 1;
/// Bytes of `struct nlmsghdr` and `struct nfgenmsg`, and of the head of the first attribute,
/// which is `NFTA_GEN_ID` (`nf_tables_fill_gen_info`).
const BEFORE_ID: usize = 16 + 4 + 4;

/// The number that the kernel raises with every change of the nftables ruleset.
pub(super) fn read(namespace: &Namespace) -> Result<u32> {
    namespace.inside(|| {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let mut request = Vec::new();
        request.extend(20_u32.to_ne_bytes());
        request.extend(GET_GENERATION.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend([0; 12]);
        send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answer = [0; 512];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        ensure!(length >= BEFORE_ID + 4, "the kernel tells no generation");
        let id = answer.get(BEFORE_ID..BEFORE_ID + 4).context("too short")?;
        Ok(u32::from_be_bytes(id.try_into()?))
    })
}

/// The tables that legacy iptables has made: looking at one makes it.
pub(super) fn legacy_tables(namespace: &Namespace) -> Result<String> {
    namespace.inside(|| {
        Ok(["ip_tables_names", "ip6_tables_names"]
            .map(|name| {
                fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
            })
            .join(","))
    })
}
