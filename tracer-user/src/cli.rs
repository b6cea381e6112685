//! The command line: what may be asked for, checked and with its defaults filled in.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::verdict::Code;

/// Longer spans than ten years are mistakes, and would overflow clocks further on.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What stands below the options.
const AFTER_HELP: &str = "\
Example: a line for each failure, for an hour
  whyrefused --format json --duration 1h | jq -r 'select(.event == \"failure\")
    | [.upstream.address, .verdict.code, .verdict.summary] | @tsv'

`whyrefused doctor` says what this host lets us observe, `whyrefused explain CODE` what a verdict
means and how to fix it, `whyrefused schema` what stands in an event.

Exit status:
  0  it ran and was stopped: by a signal, by --duration, or since its reader closed the pipe
  1  nothing could be observed, and it says why; of doctor: failures cannot be explained here
  2  wrong usage, or a fatal error such as an output that cannot be written";

/// Says why nginx's upstream connections fail, from inside the kernel
#[derive(Debug, Parser)]
#[command(
    name = "whyrefused",
    version,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    trace: TraceArguments,
}

/// What the tool is asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach and explain live until Ctrl-C (the default; needs root)
    Trace(TraceArguments),
    /// Say what this host lets us observe, probe by probe, and what each gap costs
    Doctor(DoctorArguments),
    /// Explain a verdict code; without CODE, list the codes
    Explain(ExplainArguments),
    /// Print the JSON Schema of the events
    Schema,
}

#[derive(Debug, Clone, Args)]
pub struct TraceArguments {
    /// How events are written [default: human on a terminal, json otherwise]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Append the events to this file, created with mode 0600; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Append each failed attempt with all its evidence to this file, created with mode 0600: for
    /// reports about wrong verdicts, and for tests
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Stop after this time: 500ms, 30s, 5m, 1h; a bare number is seconds
    #[arg(long, value_name = "TIME", value_parser = positive_span)]
    duration: Option<Duration>,
    /// Watch only this nginx master or worker; may be given several times
    #[arg(long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pids: Vec<u32>,
    /// Fold identical failures within this time into one event; 0 = an event for each attempt
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span)]
    coalesce: Duration,
    /// Ask no DNS server, not even for the name of an upstream whose address has just failed
    #[arg(long)]
    no_dns: bool,
    #[command(flatten)]
    kernel: KernelArguments,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    /// How the findings are written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    #[command(flatten)]
    pub kernel: KernelArguments,
}

#[derive(Debug, Clone, Args)]
pub struct KernelArguments {
    /// Read the running kernel's types from this file, for kernels without /sys/kernel/btf/vmlinux:
    /// raw BTF, or a vmlinux with a section .BTF
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ExplainArguments {
    /// A verdict code, such as no-listener
    #[arg(value_parser = code)]
    pub code: Option<Code>,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// Where events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Stdout,
    File(PathBuf),
}

/// What a trace is asked to do, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub format: Format,
    pub output: Output,
    /// Where the cases go from which verdicts are made.
    pub record: Option<PathBuf>,
    /// Null: until a signal ends it.
    pub duration: Option<Duration>,
    /// Masters and workers to watch; empty: every nginx of the host.
    pub pids: Vec<u32>,
    /// Zero: an event for each attempt.
    pub coalesce: Duration,
    /// Whether DNS servers may be asked for names of upstreams whose address failed.
    pub dns: bool,
    /// Where the kernel's types are read from; null: the kernel itself.
    pub btf: Option<PathBuf>,
}

impl Arguments {
    /// The command that was given, or the default one.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Trace(self.trace))
    }
}

impl TraceArguments {
    /// Fills in what depends on where the output goes.
    pub fn into_settings(self, stdout_is_terminal: bool) -> Settings {
        let output = if self.output.as_os_str() == "-" {
            Output::Stdout
        } else {
            Output::File(self.output)
        };
        let for_people = stdout_is_terminal && output == Output::Stdout;
        Settings {
            format: self.format.unwrap_or(if for_people {
                Format::Human
            } else {
                Format::Json
            }),
            output,
            record: self.record,
            duration: self.duration,
            pids: self.pids,
            coalesce: self.coalesce,
            dns: !self.no_dns,
            btf: self.kernel.btf,
        }
    }
}

/// Why a word is no span of time.
#[derive(Debug, thiserror::Error)]
enum SpanError {
    #[error("not a time; write it as 500ms, 30s, 5m or 1h")]
    Unreadable,
    #[error("a time cannot be negative")]
    Negative,
    #[error("longer than ten years")]
    TooLong,
    #[error("zero; leave the option out to run until Ctrl-C")]
    Zero,
}

fn positive_span(word: &str) -> Result<Duration, SpanError> {
    match span(word)? {
        Duration::ZERO => Err(SpanError::Zero),
        length => Ok(length),
    }
}

fn span(word: &str) -> Result<Duration, SpanError> {
    let is_bare = word
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parsed: Result<SignedDuration, _> = if is_bare {
        format!("{word}s").parse()
    } else {
        word.parse()
    };
    let length = parsed.map_err(|_| SpanError::Unreadable)?;
    let length = Duration::try_from(length).map_err(|_| SpanError::Negative)?;
    if length > LONGEST {
        return Err(SpanError::TooLong);
    }
    Ok(length)
}

/// A word that is no verdict code, with the code that was perhaps meant.
#[derive(Debug, thiserror::Error)]
enum CodeError {
    #[error("no such verdict code; did you mean `{0}`? `whyrefused explain` lists them")]
    Near(Code),
    #[error("no such verdict code; `whyrefused explain` lists them")]
    Unlike,
}

fn code(word: &str) -> Result<Code, CodeError> {
    let wanted = word.trim().to_ascii_lowercase().replace('_', "-");
    if let Ok(code) = wanted.parse() {
        return Ok(code);
    }
    let likeness = |code: &Code| strsim::jaro_winkler(&wanted, code.as_str());
    Code::ALL
        .into_iter()
        .max_by(|left, right| likeness(left).total_cmp(&likeness(right)))
        .filter(|code| likeness(code) > 0.75)
        .map_or(Err(CodeError::Unlike), |code| Err(CodeError::Near(code)))
}

#[cfg(test)]
mod tests;
