//! Small eBPF programs that eat packets, as other people's do.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guard::Guard;
use crate::namespace::Namespace;
use crate::patience::{SOON, wait_for};

/// Commands of `bpf()`.
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// An instruction: `opcode, destination | source << 4, offset, immediate`.
type Instruction = (u8, u8, i16, i32);

const MOVE: u8 = 0xb7;
const SUBTRACT: u8 = 0x1f;
const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const JUMP_IF_BELOW: u8 = 0xa5;
const JUMP_IF_EQUAL: u8 = 0x15;
const EXIT: Instruction = (0x95, 0, 0, 0);

/// Frames of at least this length are no ARP, which is shorter than any TCP segment with options.
const LONGER_THAN_ARP: i32 = 66;

/// What a program does, and where it may be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eater {
    /// Drops what is no ARP, in the mode of a driver or as a packet of the kernel.
    Xdp { native: bool },
    /// Drops what is no ARP, attached by tcx.
    Tcx { ingress: bool },
    /// Drops every packet that does not leave by loopback.
    CgroupEgress,
    /// Drops every packet.
    CgroupIngress,
    /// Refuses every `connect()` of IPv4.
    Connect4Refused,
    /// Refuses every `connect()` to a Unix socket.
    UnixRefused,
    /// Rewrites the port of every `connect()` of IPv4.
    Connect4Rewritten { port: u16 },
}

/// A program at work; it is detached when dropped.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Eater {
    /// Attaches it to a device of a namespace.
    ///
    /// # Errors
    ///
    /// This kernel refuses.
    pub fn on_device(self, namespace: &Namespace, device: &str, name: &str) -> Result<Attached> {
        namespace.inside(|| {
            let index = nix::net::if_::if_nametoindex(device)?;
            self.attach(index, name)
        })
    }

    /// Attaches it to a cgroup.
    ///
    /// # Errors
    ///
    /// This kernel refuses.
    pub fn on_cgroup(self, cgroup: &Cgroup, name: &str) -> Result<Attached> {
        let directory = File::open(&cgroup.directory)?;
        self.attach(directory.as_raw_fd() as u32, name)
    }

    fn attach(self, target: u32, name: &str) -> Result<Attached> {
        let program = self
            .load(name)
            .with_context(|| format!("loading {self:?}"))?;
        // Program, target, attach type and flags of `BPF_LINK_CREATE`.
        let mut attributes = [0u32; 16];
        attributes[0] = program.as_raw_fd() as u32;
        attributes[1] = target;
        attributes[2] = self.attach_type();
        attributes[3] = match self {
            // `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
            Self::Xdp { native: false } => 2,
            Self::Xdp { native: true } => 4,
            _ => 0,
        };
        let link =
            bpf(LINK_CREATE, &mut attributes).with_context(|| format!("attaching {self:?}"))?;
        Ok(Attached {
            _link: link,
            _program: program,
        })
    }

    fn load(self, name: &str) -> io::Result<OwnedFd> {
        let code: Vec<u8> = self
            .instructions()
            .into_iter()
            .flat_map(|(opcode, registers, offset, immediate)| {
                let mut bytes = vec![opcode, registers];
                bytes.extend(offset.to_ne_bytes());
                bytes.extend(immediate.to_ne_bytes());
                bytes
            })
            .collect();
        let license = c"GPL";
        // `BPF_PROG_LOAD`: type, count, code, license, three words and a pointer for the log,
        // version, flags, name, device, expected attach type.
        let mut attributes = [0u32; 32];
        attributes[0] = self.program_type();
        attributes[1] = (code.len() / 8) as u32;
        set_pointer(&mut attributes, 2, code.as_ptr() as u64);
        set_pointer(&mut attributes, 4, license.as_ptr() as u64);
        for (index, byte) in name.bytes().take(15).enumerate() {
            attributes[12 + index / 4] |= u32::from(byte) << (8 * (index % 4));
        }
        attributes[17] = self.attach_type();
        bpf(PROG_LOAD, &mut attributes)
    }

    fn program_type(self) -> u32 {
        match self {
            Self::Tcx { .. } => 3,
            Self::Xdp { .. } => 6,
            Self::CgroupEgress | Self::CgroupIngress => 8,
            Self::Connect4Refused | Self::Connect4Rewritten { .. } | Self::UnixRefused => 18,
        }
    }

    fn attach_type(self) -> u32 {
        match self {
            Self::Xdp { .. } => 37,
            Self::Tcx { ingress: true } => 46,
            Self::Tcx { ingress: false } => 47,
            Self::CgroupIngress => 0,
            Self::CgroupEgress => 1,
            Self::Connect4Refused | Self::Connect4Rewritten { .. } => 10,
            Self::UnixRefused => 49,
        }
    }

    /// The offsets are those of `struct xdp_md`, `__sk_buff` and `bpf_sock_addr`.
    fn instructions(self) -> Vec<Instruction> {
        match self {
            Self::Xdp { .. } => vec![
                (LOAD_WORD, 2 | 1 << 4, 4, 0),
                (LOAD_WORD, 3 | 1 << 4, 0, 0),
                (SUBTRACT, 2 | 3 << 4, 0, 0),
                (MOVE, 0, 0, 2),
                (JUMP_IF_BELOW, 2, 1, LONGER_THAN_ARP),
                (MOVE, 0, 0, 1),
                EXIT,
            ],
            Self::Tcx { .. } => vec![
                (LOAD_WORD, 2 | 1 << 4, 0, 0),
                (MOVE, 0, 0, 0),
                (JUMP_IF_BELOW, 2, 1, LONGER_THAN_ARP),
                (MOVE, 0, 0, 2),
                EXIT,
            ],
            Self::CgroupEgress => vec![
                (LOAD_WORD, 2 | 1 << 4, 40, 0),
                (MOVE, 0, 0, 1),
                (JUMP_IF_EQUAL, 2, 1, 1),
                (MOVE, 0, 0, 0),
                EXIT,
            ],
            Self::CgroupIngress | Self::Connect4Refused | Self::UnixRefused => {
                vec![(MOVE, 0, 0, 0), EXIT]
            }
            Self::Connect4Rewritten { port } => vec![
                (MOVE, 2, 0, i32::from(port.to_be())),
                (STORE_WORD, 1 | 2 << 4, 24, 0),
                (MOVE, 0, 0, 1),
                EXIT,
            ],
        }
    }
}

fn set_pointer(attributes: &mut [u32], at: usize, pointer: u64) {
    attributes[at] = pointer as u32;
    attributes[at + 1] = (pointer >> 32) as u32;
}

fn bpf(command: libc::c_long, attributes: &mut [u32]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as told, and what they point to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(attributes),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// A cgroup of version 2; it is removed when dropped, and when the test is killed.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    _guard: Guard,
}

impl Cgroup {
    /// `None` where the hierarchy of version 2 is not mounted.
    ///
    /// # Errors
    ///
    /// It is, and refuses.
    pub fn new(name: &str) -> Result<Option<Self>> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .map(Path::new)
            .find(|root| root.join("cgroup.controllers").is_file());
        let Some(root) = root else {
            return Ok(None);
        };
        let directory = root.join(format!("whyrefused-test-{}-{name}", std::process::id()));
        fs::create_dir(&directory)?;
        let guard = Guard::new(
            "for step in 1 2 3 4 5; do rmdir \"$1\" && exit; sleep 0.2; done",
            &[&directory.to_string_lossy()],
        )?;
        Ok(Some(Self {
            directory,
            _guard: guard,
        }))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn confine(&self, pid: u32) -> Result<()> {
        fs::write(self.processes(), pid.to_string())
            .with_context(|| format!("cannot move {pid} into {}", self.directory.display()))
    }

    /// The file to which a process writes itself to move in.
    pub fn processes(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// The last part of its path.
    pub fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It stays busy for a moment after its last process has ended.
        let _ = wait_for("the cgroup to empty", SOON, || {
            Ok(fs::remove_dir(&self.directory).ok())
        });
    }
}
