//! Security policies that a program is put under before it begins.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What the program may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// A seccomp filter answers `call` (such as `SYS_connect`) with `errno`.
    Seccomp { call: i64, errno: i32 },
    /// A filter logs these calls and lets them through, as systemd's `SystemCallLog` does it.
    Logged { calls: &'static [i64] },
    /// A filter answers `socket()` of one family, as systemd's `RestrictAddressFamilies` does it.
    Family { family: i32, errno: i32 },
    /// Landlock allows TCP connections to this port alone.
    Landlock { port: u16 },
}

impl Confinement {
    /// Confines what `command` starts.
    ///
    /// # Errors
    ///
    /// This kernel cannot.
    pub fn confine(self, command: &mut Command) -> Result<()> {
        match self {
            Confinement::Seccomp { call, errno } => {
                let answer = SeccompAction::Errno(errno.unsigned_abs());
                under(command, filter(&[(call, Vec::new())], answer)?);
            }
            Confinement::Logged { calls } => {
                let rules: Vec<_> = calls.iter().map(|call| (*call, Vec::new())).collect();
                under(command, filter(&rules, SeccompAction::Log)?);
            }
            Confinement::Family { family, errno } => {
                let family = u64::from(family.unsigned_abs());
                let same =
                    SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?;
                let rule = SeccompRule::new(vec![same])?;
                let answer = SeccompAction::Errno(errno.unsigned_abs());
                under(command, filter(&[(libc::SYS_socket, vec![rule])], answer)?);
            }
            Confinement::Landlock { port } => {
                let mut rules = Some(rules(port)?);
                // SAFETY: a prctl and a Landlock call, on a descriptor that was opened before.
                unsafe {
                    command.pre_exec(move || match rules.take() {
                        Some(rules) => rules.restrict_self().map(drop).map_err(io::Error::other),
                        None => Ok(()),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Whether Landlock of this kernel can forbid connections, by port.
pub fn landlock_judges_connections() -> bool {
    let wanted = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::ConnectTcp);
    wanted.is_ok_and(|ruleset| ruleset.create().is_ok())
}

fn under(command: &mut Command, filter: BpfProgram) {
    // SAFETY: a prctl and a seccomp call, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || apply_filter(&filter).map_err(io::Error::other));
    }
}

fn filter(rules: &[(i64, Vec<SeccompRule>)], answer: SeccompAction) -> Result<BpfProgram> {
    let rules: BTreeMap<_, _> = rules.iter().cloned().collect();
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture)?;
    Ok(filter.try_into()?)
}

fn rules(port: u16) -> Result<RulesetCreated> {
    Ruleset::default()
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()
        .context("this kernel has no Landlock")?
        .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
        .context("Landlock takes no rule about a port")?
        .add_rule(NetPort::new(8080, AccessNet::BindTcp))
        .context("Landlock takes no rule about nginx's own port")
}
