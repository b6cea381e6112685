//! What runs in the guests: the tool and the test programs, as they were built here.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::flavour::Flavour;
use super::image;
use crate::workspace;

const INIT: &str = include_str!("payload.sh");
const LIVE: &str = include_str!("live.sh");

/// How many times longer than here anything may take in a guest.
const PATIENCE: u32 = 4;

/// Tests wait a lot; while one does, the one processor has time for another.
const THREADS: u32 = 2;

/// An emulated machine stalls now and then, and a test that fails by that passes when it is run
/// again. Where more than these fail, something else is wrong.
const MOST_AGAIN: u32 = 10;

/// Programs that stand in the guest where they stand here, for tests know their paths.
pub struct Payload {
    programs: Vec<PathBuf>,
    tool: PathBuf,
    load_test: PathBuf,
    live_tests: PathBuf,
}

impl Payload {
    /// Builds the tool and the test programs; another build of the tool may be named.
    ///
    /// # Errors
    ///
    /// Something does not compile.
    pub fn build(named: Option<PathBuf>) -> Result<Self> {
        let mut tool = named;
        let mut load_test = None;
        let mut live_tests = None;
        let mut programs = Vec::new();
        for (name, path) in built()? {
            match name.as_str() {
                "every_candidate" => load_test = Some(path.clone()),
                "live" => live_tests = Some(path.clone()),
                "backend" | "demo" => {}
                "whyrefused" => {
                    tool.get_or_insert(path);
                    continue;
                }
                _ => continue,
            }
            programs.push(path);
        }
        Ok(Self {
            programs,
            tool: tool.context("cargo built no whyrefused")?,
            load_test: load_test.context("cargo built no test every_candidate")?,
            live_tests: live_tests.context("cargo built no test live")?,
        })
    }

    /// The codes of the verdicts that the tool can tell, as its schema lists them.
    ///
    /// # Errors
    ///
    /// It does not list them.
    pub fn verdicts(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.tool)
            .arg("schema")
            .output()
            .with_context(|| format!("cannot run {}", self.tool.display()))?;
        let schema: Value =
            serde_json::from_slice(&output.stdout).context("the schema is no JSON")?;
        let codes = schema["$defs"]["Code"]["enum"].as_array();
        let codes = codes.context("the schema has no codes of verdicts")?;
        Ok(codes
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Writes the image; `tests` are arguments of the live tests. The load test runs in an
    /// ordinary guest alone.
    ///
    /// # Errors
    ///
    /// The image cannot be written.
    pub fn image(&self, flavour: Flavour, tests: &[OsString], image: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("cannot create a folder")?;
        let mut run = String::new();
        for program in self.programs.iter().chain([&self.tool]) {
            let place = program.parent().unwrap_or(program);
            let name = program.file_name().unwrap_or_default();
            fs::copy(program, folder.path().join(name))
                .with_context(|| format!("cannot copy {}", program.display()))?;
            run += &format!(
                "mkdir -p {} && ln -sf /payload/{} {}\n",
                quoted(place.as_os_str().as_encoded_bytes()),
                quoted(name.as_encoded_bytes()),
                quoted(program.as_os_str().as_encoded_bytes()),
            );
        }
        run += &self.script(flavour, tests);
        fs::write(folder.path().join("run"), run)?;
        fs::write(folder.path().join("init"), INIT)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        image::of_folder(folder.path(), image)
    }

    fn script(&self, flavour: Flavour, tests: &[OsString]) -> String {
        let word = |path: &Path| quoted(path.as_os_str().as_encoded_bytes());
        let mut arguments = String::new();
        for argument in tests {
            arguments += &format!(" {}", quoted(argument.as_encoded_bytes()));
        }
        let load_test = match flavour {
            Flavour::Ordinary => format!(
                "{} --nocapture --color=never || code=1\n",
                word(&self.load_test)
            ),
            Flavour::Apparmor | Flavour::Selinux => String::new(),
        };
        format!(
            "export WHYREFUSED_BIN={} WHYREFUSED_TEST_PATIENCE={PATIENCE}\n\
             export RUST_TEST_THREADS={THREADS}\ncode=0\n\
             {load_test}live() {{ {} --show-output --color=never \"$@\"; }}\n\
             set --{arguments}\nmost_again={MOST_AGAIN}\n{LIVE}exit $code\n",
            word(&self.tool),
            word(&self.live_tests),
        )
    }
}

/// The programs that the tests consist of, by their names.
fn built() -> Result<Vec<(String, PathBuf)>> {
    let mut command = workspace::cargo("test");
    command
        // Emulated, what is not optimised would take most of the time.
        .args(["--release", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .args(["--package", "whyrefused-tests", "--package", "tracer-user"])
        .args(["--bins", "--test", "live", "--test", "every_candidate"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            let is_test = message["profile"]["test"].as_bool() == Some(true);
            let is_program = message["target"]["kind"][0] == "bin";
            // The programs come without their unit tests.
            if is_test != is_program {
                programs.push((name.to_owned(), PathBuf::from(path)));
            }
        }
    }
    if !child.wait()?.success() {
        bail!("the tests do not compile");
    }
    Ok(programs)
}

/// The bytes as one word of a shell.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_with_quotes_and_blanks_stays_one_word() {
        assert_eq!(quoted(b"a 'b' $c"), r"'a '\''b'\'' $c'");
    }
}
