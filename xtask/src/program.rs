//! The programs of the package `whyrefused-tests`, run on the release build of the tool.

use std::ffi::OsString;

use anyhow::Result;

use crate::{build, workspace};

/// Builds the tool and all programs of the package, since they start each other, and runs the
/// one of this name with the tool's path before the arguments.
pub fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    build::release()?;
    let package = ["--release", "--package", "whyrefused-tests"];
    workspace::run(workspace::cargo("build").args(package).arg("--bins"))?;
    workspace::replace_by(
        workspace::cargo("run")
            .args(package)
            .args(["--quiet", "--bin", name, "--"])
            .arg(workspace::binary())
            .args(arguments),
    )
}
