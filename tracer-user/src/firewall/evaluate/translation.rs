//! Where a translation leads (`nft_nat_eval`, `nft_redir_eval`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::case::{Action, Hook};
use crate::firewall::expression::{Expression, Register};

use super::bits::known;
use super::registers::Registers;
use super::scene::Scene;

/// The translation of a source is no end of a way.
pub fn translation(scene: &Scene, registers: &Registers, nat: &Expression) -> Action {
    let Expression::Nat {
        destination,
        redirect,
        address,
        port,
    } = nat
    else {
        return Action::Accept;
    };
    if !destination && !redirect {
        return Action::Accept;
    }
    let to = scene.packet.to;
    let port = match port {
        Some(register) => known(registers.read(*register, 2))
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_be_bytes),
        None => Some(to.port()),
    };
    let address = match address {
        Some(register) => translated(registers, *register, to.is_ipv4()),
        // `nf_nat_redirect`: at OUTPUT to loopback, else to the interface's own address.
        None if *redirect && scene.hook == Hook::Output => Some(match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }),
        None if *redirect => None,
        None => Some(to.ip()),
    };
    Action::Translate {
        to: address.zip(port).map(SocketAddr::from),
    }
}

fn translated(registers: &Registers, from: Register, v4: bool) -> Option<IpAddr> {
    if v4 {
        let bytes: [u8; 4] = known(registers.read(from, 4))?.try_into().ok()?;
        Some(bytes.into())
    } else {
        let bytes: [u8; 16] = known(registers.read(from, 16))?.try_into().ok()?;
        Some(bytes.into())
    }
}
