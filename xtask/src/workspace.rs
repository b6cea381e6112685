//! Places in this workspace, and its cargo.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The folder of the repository.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The release binary of the tool.
pub fn binary() -> PathBuf {
    target().join("release/whyrefused")
}

/// Where everything is built: always this folder, so that the binary has one place.
pub fn target() -> PathBuf {
    root().join("target")
}

/// `cargo SUBCOMMAND` in the workspace, by the cargo that runs us.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .arg(subcommand)
        .env("CARGO_TARGET_DIR", target());
    command
}

/// Runs the command with our own standard streams.
///
/// # Errors
///
/// It cannot be started, or its status is not success.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs the command in our place, so that signals and the exit status are its own.
///
/// # Errors
///
/// It cannot be started; otherwise this does not return.
pub fn replace_by(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> = std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    format!("`{}`", words.join(" "))
}
