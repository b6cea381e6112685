//! Temporary directories that are gone when this process is, however it ends.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tempfile::{Builder, TempDir};

use crate::guard::Guard;

/// The parent of all directories of this process, and what removes it.
static ROOT: Mutex<Option<(TempDir, Guard)>> = Mutex::new(None);

/// A new directory whose name begins with `name`. It is removed when dropped, and when this
/// process is killed.
///
/// # Errors
///
/// There is no room, or no `sh`.
pub fn directory(name: &str) -> Result<TempDir> {
    let mut root = ROOT.lock().unwrap_or_else(PoisonError::into_inner);
    let (parent, _) = match root.take() {
        Some(made) => root.insert(made),
        None => root.insert(make()?),
    };
    let directory = Builder::new().prefix(name).tempdir_in(parent.path());
    directory.with_context(|| format!("cannot make a directory in {}", parent.path().display()))
}

fn make() -> Result<(TempDir, Guard)> {
    use std::os::unix::fs::PermissionsExt;
    // nginx's workers are somebody else and must get through.
    let permissions = std::fs::Permissions::from_mode(0o755);
    let root = Builder::new()
        .prefix(&format!("whyrefused-lab-{}-", std::process::id()))
        .permissions(permissions)
        .tempdir()
        .context("cannot make a temporary directory")?;
    let guard = Guard::new("rm -rf -- \"$1\"", &[&root.path().to_string_lossy()])?;
    Ok((root, guard))
}
