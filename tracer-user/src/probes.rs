//! What is observed in the kernel, by which means, and what could not be attached.

mod attach;
mod calls;
mod hook;
mod layout;
mod misses;
mod names;
mod observations;
mod perf_event;
mod rules;
mod stand_ins;
mod tracing;
mod trial;
mod watched;

pub use attach::{Probes, ProbesError};
pub use misses::Missed;
pub use names::Names;
pub use observations::OBSERVATIONS;
pub use trial::Trial;

/// What the caller wants of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Follow processes that start and are called like an nginx.
    pub follow_new: bool,
    /// Count attempts that fail alike in quick succession instead of telling each.
    pub fold: bool,
}

/// One kind of fact that the kernel is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Observation {
    /// As `session` and `doctor` call it.
    pub name: &'static str,
    /// What its absence costs, in words for `limits`.
    pub cost: &'static str,
    /// Without it nothing can be explained.
    pub essential: bool,
    /// The means, the best first: the first that loads and attaches wins.
    pub candidates: &'static [Candidate],
}

/// One means of an observation: programs and where they attach. All of them are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate(pub &'static [Hook]);

/// Where one program attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A raw tracepoint; the program has its name.
    Raw(&'static str),
    /// A raw tracepoint that tells enough only where it has an argument of that type.
    RawWith {
        name: &'static str,
        argument: &'static str,
    },
    /// A tracepoint by perf event; the program has its name.
    Perf {
        category: &'static str,
        name: &'static str,
    },
    /// The entry of a function of the kernel, by fentry.
    Entry(&'static str),
    /// Its return, by fexit.
    Return(&'static str),
    /// The entry of a function of the kernel or of one of its modules, by kprobe.
    ProbeEntry(&'static str),
    /// Its return, by kretprobe. The kernel follows a bounded number of calls at a time: none
    /// that may last is to be watched so.
    ProbeReturn(&'static str),
}

impl Hook {
    /// Name of the program in the object: that of a function without its leading underscores,
    /// behind the kind.
    pub fn program(self) -> String {
        let of =
            |kind: &str, function: &str| format!("{kind}_{}", function.trim_start_matches('_'));
        match self {
            Hook::Raw(name) | Hook::RawWith { name, .. } | Hook::Perf { name, .. } => {
                name.to_owned()
            }
            Hook::Entry(function) => of("fentry", function),
            Hook::Return(function) => of("fexit", function),
            Hook::ProbeEntry(function) => of("kprobe", function),
            Hook::ProbeReturn(function) => of("kretprobe", function),
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hook::Raw(name) | Hook::RawWith { name, .. } => {
                write!(formatter, "raw_tracepoint:{name}")
            }
            Hook::Perf { category, name } => write!(formatter, "tracepoint:{category}:{name}"),
            Hook::Entry(function) => write!(formatter, "fentry:{function}"),
            Hook::Return(function) => write!(formatter, "fexit:{function}"),
            Hook::ProbeEntry(function) => write!(formatter, "kprobe:{function}"),
            Hook::ProbeReturn(function) => write!(formatter, "kretprobe:{function}"),
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, hook) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "+" };
            write!(formatter, "{separator}{hook}")?;
        }
        Ok(())
    }
}
