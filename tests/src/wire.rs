//! A cable to machines that are not on this host: what comes back from there was made by no
//! socket layer of this kernel.

mod far_end;

use std::process::Stdio;

use anyhow::{Context, Result};

pub use self::far_end::{Answer, FarEnd};

use crate::host;
use crate::namespace::Namespace;
use crate::process::Process;

/// Name of the cable's device inside the namespace.
pub const DEVICE: &str = "wire0";
/// The namespace's own address on the cable.
pub const HERE: &str = "10.77.0.1";
/// The same, IPv6.
pub const HERE_V6: &str = "fd77::1";

/// A tap device whose far end is played by a process. It ends with that process.
#[derive(Debug)]
pub struct Wire {
    _far_end: Process,
}

impl Wire {
    /// Stretches a cable with the networks 10.77.0.0/24 and fd77::/64. `arguments` say how the
    /// far end answers, see [`FarEnd`].
    ///
    /// # Errors
    ///
    /// The host has no /dev/net/tun.
    pub fn stretch(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let mut command = namespace.command(host::fixture()?);
        command
            .args(["wire", "--device", DEVICE])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut far_end = Process::start(&mut command)?;
        crate::backend::read_line(far_end.child())
            .context("the far end of the cable did not start")?;
        namespace.address(DEVICE, &[&format!("{HERE}/24"), &format!("{HERE_V6}/64")])?;
        Ok(Self { _far_end: far_end })
    }
}
