//! Anonymous network namespaces and what happens inside them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::{self, Process};

/// A network namespace without a name. It lives as long as a process is in it; the one that
/// this value starts for that purpose dies with it.
#[derive(Debug, Clone)]
pub struct Namespace {
    holder: Arc<Process>,
    entrance: Arc<File>,
    inode: u64,
}

impl Namespace {
    /// A new namespace with its loopback device up.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel has no network namespaces.
    pub fn new() -> Result<Self> {
        let holder = hold()?;
        let entrance = File::open(format!("/proc/{}/ns/net", holder.pid()))?;
        let inode = entrance.metadata()?.ino();
        let namespace = Self {
            holder: Arc::new(holder),
            entrance: Arc::new(entrance),
            inode,
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The number by which `/proc/PID/ns/net` shows it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let entrance = Arc::clone(&self.entrance);
        // SAFETY: setns is a plain system call on a descriptor that the closure keeps open.
        unsafe {
            command.pre_exec(move || Ok(setns(entrance.as_fd(), CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    /// Calls `action` on a thread that is inside. Sockets that it opens stay inside.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or `action` fails.
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.entrance.as_fd(), CloneFlags::CLONE_NEWNET)
                        .context("cannot enter the namespace")?;
                    action()
                })
                .join()
                .map_err(|_| anyhow!("the thread inside the namespace panicked"))?
        })
    }

    /// Runs the lines of `commands` as `ip` commands, in order.
    ///
    /// # Errors
    ///
    /// `ip` refuses one of them.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.feed("ip", &["-batch", "-"], commands)
    }

    /// The same for IPv6 where the command does not show it.
    ///
    /// # Errors
    ///
    /// As [`Self::ip`].
    pub fn ip6(&self, commands: &str) -> Result<()> {
        self.feed("ip", &["-6", "-batch", "-"], commands)
    }

    /// Filters both families at `hook` (`input`, `output`, ...) by nftables rules, one a line.
    ///
    /// # Errors
    ///
    /// `nft` is missing or refuses them.
    pub fn filter(&self, hook: &str, rules: &str) -> Result<()> {
        let ruleset = format!(
            "table inet lab {{\nchain {hook} {{\ntype filter hook {hook} priority 0\n{rules}\n}}\n}}\n"
        );
        self.feed("nft", &["-f", "-"], &ruleset)
    }

    /// Loads an nftables ruleset of any family.
    ///
    /// # Errors
    ///
    /// `nft` is missing or refuses it.
    pub fn ruleset(&self, ruleset: &str) -> Result<()> {
        self.feed("nft", &["-f", "-"], ruleset)
    }

    /// Runs `program` (`iptables`, `ip6tables`, `iptables-legacy`, ...) with arguments that
    /// hold no blanks.
    ///
    /// # Errors
    ///
    /// It is missing or refuses.
    pub fn iptables(&self, program: &str, arguments: &str) -> Result<()> {
        let mut command = self.command(program);
        command
            .args(["-w", "10"])
            .args(arguments.split_whitespace());
        process::run(&mut command).map(drop)
    }

    /// Sets `net.NAME` inside; `name` has slashes.
    ///
    /// # Errors
    ///
    /// The kernel has no such setting or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        // The files under /proc/sys/net are those of the opening thread's namespace
        // (net_ctl_root_lookup).
        self.inside(|| {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
        })
    }

    /// Joins this namespace and `other` by a veth pair that is up, with the given addresses
    /// (`10.1.0.1/24`, `fd01::1/64`) on each side.
    ///
    /// # Errors
    ///
    /// The kernel has no veth, or a name or address is taken.
    pub fn link(
        &self,
        (device, addresses): (&str, &[&str]),
        other: &Namespace,
        (other_device, other_addresses): (&str, &[&str]),
    ) -> Result<()> {
        let other_pid = other.holder.pid();
        self.ip(&format!(
            "link add {device} type veth peer name {other_device} netns {other_pid}"
        ))?;
        self.address(device, addresses)?;
        other.address(other_device, other_addresses)
    }

    /// Forwards packets of both families, as a router does.
    ///
    /// # Errors
    ///
    /// As [`Self::sysctl`].
    pub fn forward(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }

    /// Gives `device` its addresses and brings it up.
    ///
    /// # Errors
    ///
    /// `ip` refuses.
    pub fn address(&self, device: &str, addresses: &[&str]) -> Result<()> {
        let mut commands = String::new();
        for address in addresses {
            // Without nodad an IPv6 address is unusable for a second.
            let flag = if address.contains(':') { " nodad" } else { "" };
            commands += &format!("addr add {address} dev {device}{flag}\n");
        }
        self.ip(&format!("{commands}link set {device} up\n"))
    }

    pub(crate) fn feed(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        use std::io::Write as _;
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let refusal = String::from_utf8_lossy(&output.stderr);
        Err(anyhow!("{program} refused {input:?}: {}", refusal.trim()))
    }
}

/// A process in a new network namespace that does nothing until its standard input ends.
fn hold() -> Result<Process> {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    // SAFETY: unshare is a plain system call.
    unsafe {
        command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNET)?));
    }
    Process::start(&mut command).context("cannot make a network namespace")
}
