//! AppArmor profiles for the nginx of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::guard::Guard;
use crate::host::{Host, program, skip};
use crate::process::run;
use crate::scratch;

/// A profile that confines a copy of nginx; it is removed when this is dropped, or when the test
/// is.
#[derive(Debug)]
pub struct Profile {
    name: String,
    nginx: PathBuf,
    parser: PathBuf,
    directory: tempfile::TempDir,
    _guard: Guard,
}

impl Profile {
    /// Loads a profile with these rules beside what nginx needs in any case. `flags` is empty or
    /// such as `flags=(complain)`. `None` where AppArmor is not in force, after saying so.
    ///
    /// # Errors
    ///
    /// The profile is refused.
    pub fn load(host: &Host, flags: &str, rules: &str) -> Result<Option<Self>> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|value| value.trim() == "Y") {
            skip("AppArmor is not in force; `cargo xtask test --vm` boots a guest where it is");
            return Ok(None);
        }
        let parser = match program("apparmor_parser", "apparmor") {
            Ok(parser) => parser,
            Err(missing) => {
                skip(&format!("{missing:#}"));
                return Ok(None);
            }
        };
        let directory = scratch::directory("apparmor-")?;
        let path = directory.path();
        let nginx = path.join("nginx");
        fs::copy(&host.nginx, &nginx).context("cannot copy nginx")?;
        let text = path.join("profile");
        let guard = Guard::new(
            "\"$1\" --remove \"$2\"",
            &[&parser.to_string_lossy(), &text.to_string_lossy()],
        )?;
        let profile = Self {
            name: format!("whyrefused-lab-{}", scratch_name(path)),
            nginx,
            parser,
            directory,
            _guard: guard,
        };
        profile.replace(flags, rules)?;
        Ok(Some(profile))
    }

    /// Loads these rules in the place of the others, as an administrator does who edits them.
    ///
    /// # Errors
    ///
    /// The profile is refused.
    pub fn replace(&self, flags: &str, rules: &str) -> Result<()> {
        let Self { name, nginx, .. } = self;
        let nginx = nginx.display();
        let text = format!(
            "abi <abi/3.0>,\nprofile {name} {nginx} {flags} {{\n  capability,\n  file,\n  signal,\n  ptrace,\n  \
             unix,\n  network unix,\n  network netlink,\n  network inet stream,\n  {rules}\n}}\n"
        );
        fs::write(self.text(), text)?;
        self.parse("--replace").context("the profile is refused")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host with the nginx that the profile confines.
    pub fn confined(&self, host: &Host) -> Host {
        Host {
            nginx: self.nginx.clone(),
            ..host.clone()
        }
    }

    fn text(&self) -> PathBuf {
        self.directory.path().join("profile")
    }

    fn parse(&self, action: &str) -> Result<()> {
        run(Command::new(&self.parser)
            .args(["--skip-cache", action])
            .arg(self.text()))
        .map(drop)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // It stays where that fails, and confines a file that is gone.
        let _ = self.parse("--remove");
    }
}

/// A name that no other profile has, for no other directory has it.
fn scratch_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
