//! SELinux that enforces Debian's policy, as in the guests of `cargo xtask test --vm`.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};

use crate::host::{program, skip};
use crate::process::run;

const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// What starts services; the nginx that it starts is `httpd_t`.
const INIT: &str = "system_u:system_r:initrc_t:";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The policy of this machine, for one test at a time. It is as it was once this is dropped.
#[derive(Debug)]
pub struct Selinux {
    changed: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Selinux {
    /// `None` where SELinux does not enforce, or this is no guest, after saying so: a policy that
    /// is in use is nobody's to change.
    pub fn find() -> Option<Self> {
        let enforces = fs::read_to_string(ENFORCE).is_ok_and(|value| value == "1");
        let context = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        if !enforces {
            skip("SELinux does not enforce; `cargo xtask test --vm` boots a guest where it does");
            return None;
        }
        if !context.starts_with(INIT) {
            skip("the tests change the policy, and this is no guest of `cargo xtask test --vm`");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self {
            changed: Vec::new(),
            _turn: turn,
        })
    }

    /// Turns a boolean of the policy on, until this is dropped.
    ///
    /// # Errors
    ///
    /// The policy has no such boolean.
    pub fn allow(&mut self, boolean: &str) -> Result<()> {
        set(boolean, "on")?;
        self.changed.push(boolean.to_owned());
        Ok(())
    }

    /// Lets SELinux log and allow what it denied, until this is dropped.
    ///
    /// # Errors
    ///
    /// It may not be told so.
    pub fn be_permissive(&self) -> Result<()> {
        fs::write(ENFORCE, "0")?;
        Ok(())
    }
}

impl Drop for Selinux {
    fn drop(&mut self) {
        // The next test finds out where that fails.
        let _ = fs::write(ENFORCE, "1");
        for boolean in &self.changed {
            let _ = set(boolean, "off");
        }
    }
}

/// The context of a process.
///
/// # Errors
///
/// It is gone, or is not in this domain, such as `httpd_t`.
pub fn ensure_in_domain(pid: u32, domain: &str) -> Result<()> {
    let context = fs::read_to_string(format!("/proc/{pid}/attr/current"))?;
    ensure!(
        context.split(':').nth(2) == Some(domain),
        "process {pid} is {context}"
    );
    Ok(())
}

fn set(boolean: &str, value: &str) -> Result<()> {
    let setsebool = program("setsebool", "policycoreutils")?;
    run(Command::new(setsebool).args([boolean, value])).map(drop)
}
