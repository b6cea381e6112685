//! Names that mean something to one nginx alone: files of its own in a mount namespace of its
//! own, and a DNS server that answers by a file.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::scratch;

/// The files of `/etc` that a process has for its own.
const FILES: [&str; 3] = ["hosts", "resolv.conf", "nsswitch.conf"];

/// `/etc/hosts` and the files that lead to a DNS server, of one nginx.
#[derive(Debug, Clone)]
pub struct NameService {
    directory: Arc<tempfile::TempDir>,
}

impl NameService {
    /// Names by these lines of `/etc/hosts`; for others, the DNS server 127.0.0.1 is asked.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn of_hosts(hosts: &str) -> Result<Self> {
        let names = Self {
            directory: Arc::new(scratch::directory("names-")?),
        };
        fs::write(names.file("resolv.conf"), "nameserver 127.0.0.1\n")?;
        fs::write(names.file("nsswitch.conf"), "hosts: files dns\n")?;
        names.change(hosts)?;
        names.change_zone("")?;
        Ok(names)
    }

    /// Writes other lines into `/etc/hosts`.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn change(&self, hosts: &str) -> Result<()> {
        Ok(fs::write(self.file("hosts"), hosts)?)
    }

    /// Lets a DNS server that reads [`Self::zone`] answer by these lines, each an address and a
    /// name.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn change_zone(&self, lines: &str) -> Result<()> {
        Ok(fs::write(self.zone(), lines)?)
    }

    /// The file by which the DNS server answers.
    pub fn zone(&self) -> PathBuf {
        self.file("zone")
    }

    /// What `command` starts sees these files in place of those of this host, which nobody else
    /// notices.
    ///
    /// # Errors
    ///
    /// A path cannot be made.
    pub fn show_to(&self, command: &mut Command) -> Result<()> {
        let places: Vec<(PathBuf, PathBuf)> = FILES
            .iter()
            .map(|name| (self.file(name), Path::new("/etc").join(name)))
            .filter(|(_, place)| place.exists())
            .collect();
        // SAFETY: unshare and mount are plain system calls, on paths that were made before.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let none = None::<&str>;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(none, "/", none, private, none)?;
                for (own, place) in &places {
                    mount(Some(own), place, none, MsFlags::MS_BIND, none)?;
                }
                Ok(())
            });
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Answers every question by the lines of `zone`, each an address and a name, until the socket
/// fails.
///
/// # Errors
///
/// The socket fails.
pub fn answer(socket: &UdpSocket, zone: &Path) -> Result<()> {
    let mut bytes = [0; 512];
    loop {
        let (length, asker) = socket.recv_from(&mut bytes)?;
        let lines = fs::read_to_string(zone)?;
        if let Some(reply) = reply(&bytes[..length], &lines) {
            socket.send_to(&reply, asker).context("cannot answer")?;
        }
    }
}

/// Nothing to what is no question.
fn reply(question: &[u8], lines: &str) -> Option<Vec<u8>> {
    let asked = Packet::parse(question).ok()?;
    let question = asked.questions.first()?.clone();
    let mut reply = Packet::new_reply(asked.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    let name = question.qname.to_string();
    let known: Vec<IpAddr> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, owner)| owner.eq_ignore_ascii_case(&name))
        .filter_map(|(address, _)| address.parse().ok())
        .collect();
    if known.is_empty() {
        *reply.rcode_mut() = RCODE::NameError;
    }
    for address in known {
        let data = match (address, question.qtype) {
            (IpAddr::V4(ip), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: ip.into() }),
            (IpAddr::V6(ip), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA { address: ip.into() }),
            _ => continue,
        };
        let owner = question.qname.clone();
        reply
            .answers
            .push(ResourceRecord::new(owner, CLASS::IN, 1, data));
    }
    reply.questions.push(question);
    reply.build_bytes_vec().ok()
}
