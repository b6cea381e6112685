//! A memory cgroup in which a process can run out of memory alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guard::Guard;
use crate::patience::{SOON, wait_for};

/// A cgroup with a memory limit; it is removed when dropped, and when the test is killed.
#[derive(Debug)]
pub struct MemoryLimit {
    directory: PathBuf,
    _guard: Guard,
}

impl MemoryLimit {
    /// `None` where this host offers no memory controller.
    ///
    /// # Errors
    ///
    /// There is a controller and it refuses.
    pub fn new(name: &str, bytes: u64) -> Result<Option<Self>> {
        let Some((root, limit)) = controller() else {
            return Ok(None);
        };
        let directory = root.join(format!("whyrefused-test-{}-{name}", std::process::id()));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make the cgroup {}", directory.display()))?;
        let guard = Guard::new(
            "for step in 1 2 3 4 5; do rmdir \"$1\" && exit; sleep 0.2; done",
            &[&directory.to_string_lossy()],
        )?;
        let made = Self {
            directory,
            _guard: guard,
        };
        fs::write(made.directory.join(limit), bytes.to_string())?;
        // Without swap the limit is met at once; where it cannot be set there is none.
        let _ = fs::write(made.directory.join("memory.swap.max"), "0");
        Ok(Some(made))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn confine(&self, pid: u32) -> Result<()> {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot move {pid} into {}", self.directory.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // It stays busy for a moment after its last process has ended.
        let _ = wait_for("the cgroup to empty", SOON, || {
            Ok(fs::remove_dir(&self.directory).ok())
        });
    }
}

/// Where the memory controller is mounted, and the name of its limit.
fn controller() -> Option<(PathBuf, &'static str)> {
    let version_one = Path::new("/sys/fs/cgroup/memory");
    if version_one.join("memory.limit_in_bytes").exists() {
        return Some((version_one.to_owned(), "memory.limit_in_bytes"));
    }
    let unified = Path::new("/sys/fs/cgroup");
    let enabled = fs::read_to_string(unified.join("cgroup.subtree_control")).ok()?;
    enabled
        .split_whitespace()
        .any(|controller| controller == "memory")
        .then(|| (unified.to_owned(), "memory.max"))
}
