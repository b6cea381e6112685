//! The TCP sockets of a namespace, as its `/proc/net/tcp` and `tcp6` list them.

use std::fs;

use anyhow::Result;

use crate::namespace::Namespace;

/// States of a TCP socket by their numbers in the kernel.
pub const ESTABLISHED: u8 = 1;
pub const SYN_SENT: u8 = 2;
pub const TIME_WAIT: u8 = 6;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    pub remote_port: u16,
    pub state: u8,
    /// Retransmissions of what is unanswered.
    pub retransmissions: u32,
}

/// Every TCP socket of both families.
///
/// # Errors
///
/// The namespace cannot be entered.
pub fn list(namespace: &Namespace) -> Result<Vec<Socket>> {
    // /proc/net is the view of the main thread; this one is inside.
    let tables = namespace.inside(|| {
        let four = fs::read_to_string("/proc/thread-self/net/tcp")?;
        Ok(four + &fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default())
    })?;
    Ok(tables.lines().filter_map(read).collect())
}

fn read(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, remote, state, _, _, retransmissions, ..] = fields[..] else {
        return None;
    };
    let (_, port) = remote.rsplit_once(':')?;
    Some(Socket {
        remote_port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(state, 16).ok()?,
        retransmissions: u32::from_str_radix(retransmissions, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = "   1: 0100007F:9C40 0100007F:238D 02 00000001:00000000 01:00000064 00000002     0        0 1 1 0";
        let expected = Socket {
            remote_port: 9101,
            state: SYN_SENT,
            retransmissions: 2,
        };
        assert_eq!(read(line), Some(expected));
    }

    #[test]
    fn the_heading_of_the_table_is_no_socket() {
        let line =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid";
        assert_eq!(read(line), None);
    }
}
