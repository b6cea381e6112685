//! Kernel functions by address: which netfilter hook a stack was in, and where a packet was
//! freed.
//!
//! `/proc/kallsyms` has a line for every symbol. Only the functions named here are kept; the name
//! of any other is looked up by reading the file again, which takes long.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use tracer_common::Code;

use crate::case::Hook;
use names::{FILTERS, FREE, HOOK_RUNNERS, HOOKS, RESET, RUN_RULES};

mod names;

const PATH: &str = "/proc/kallsyms";

/// No function of the kernel is longer: an address further behind a symbol is not in it.
const LONGEST: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum KallsymsError {
    #[error("cannot read {PATH}: {0}")]
    Unreadable(#[from] io::Error),
    #[error(
        "the kernel hides the addresses of its functions: set kernel.kptr_restrict below 2 and \
         run with CAP_SYSLOG to learn in which hook packets are dropped"
    )]
    Hidden,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    start: u64,
    /// The first address behind it.
    end: u64,
    name: &'static str,
    hook: Option<Hook>,
}

/// The functions of interest.
#[derive(Debug, Default)]
pub struct Kallsyms {
    /// By address.
    functions: Vec<Function>,
}

impl Kallsyms {
    /// Reads the file twice: symbols of modules come in no order, so that the end of a function
    /// is known only once all starts are.
    pub fn read() -> Result<Self, KallsymsError> {
        let mut functions = starts(open()?)?;
        if functions.is_empty() {
            return Err(KallsymsError::Hidden);
        }
        functions.sort_unstable_by_key(|function| function.start);
        ends(open()?, &mut functions)?;
        Ok(Self { functions })
    }

    /// The hook that was being run, from the kernel's stack, innermost frame first: the function
    /// that runs a hook is the one that called for its rules. Where another known function comes
    /// before these no hook was being run: a packet that passes a bridge or a veth pair goes
    /// through many of them in one stack.
    pub fn hook_of(&self, frames: &[u64]) -> Option<Hook> {
        let mut functions = frames.iter().filter_map(|frame| self.function(*frame));
        if !RUN_RULES.contains(&functions.next()?.name) {
            return None;
        }
        let caller = functions.find(|function| function.hook.is_some())?;
        // `__br_forward` runs the hook of forwarding for what came in by another port, and that of
        // output for what the bridge itself sends (`br_dev_xmit`).
        let sends = caller.name == "__br_forward"
            && functions
                .next()
                .is_some_and(|function| function.name == "br_dev_xmit");
        if sends {
            Some(Hook::Output)
        } else {
            caller.hook
        }
    }

    /// The functions of packet filters among the frames, the innermost first.
    pub fn filters_in(&self, frames: &[u64]) -> impl Iterator<Item = &'static str> {
        frames
            .iter()
            .filter_map(|frame| self.function(*frame))
            .map(|function| function.name)
            .filter(|name| FILTERS.contains(name) || name.starts_with("br_nf_"))
    }

    /// The name of the function that `address` is in, where it is one of interest.
    pub fn name_of(&self, address: u64) -> Option<&'static str> {
        self.function(address).map(|function| function.name)
    }

    /// Where the code lies that runs the rules of hooks and frees what these drop.
    pub fn code_of_hooks(&self) -> Vec<Code> {
        self.functions
            .iter()
            .filter(|function| HOOK_RUNNERS.contains(&function.name))
            .map(|function| Code {
                start: function.start,
                end: function.end,
            })
            .collect()
    }

    fn function(&self, address: u64) -> Option<&Function> {
        let after = self
            .functions
            .partition_point(|function| function.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address < function.end).then_some(function)
    }
}

fn open() -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(64 << 10, File::open(PATH)?))
}

fn starts(file: impl BufRead) -> io::Result<Vec<Function>> {
    let wanted: HashMap<&str, (&'static str, Option<Hook>)> = HOOKS
        .into_iter()
        .map(|(name, hook)| (name, (name, Some(hook))))
        .chain(
            FILTERS
                .into_iter()
                .chain(FREE)
                .chain(RESET)
                .map(|name| (name, (name, None))),
        )
        .collect();
    let mut functions = Vec::new();
    each_function(file, |start, name| {
        if let Some((name, hook)) = wanted.get(source_name(name)) {
            functions.push(Function {
                start,
                end: start + LONGEST,
                name,
                hook: *hook,
            });
        }
    })?;
    Ok(functions)
}

fn ends(file: impl BufRead, functions: &mut [Function]) -> io::Result<()> {
    each_function(file, |address, _| {
        let after = functions.partition_point(|function| function.start < address);
        if let Some(before) = after.checked_sub(1) {
            functions[before].end = functions[before].end.min(address);
        }
    })
}

/// Hands every function of the file to `each`. Hidden addresses are all zero.
fn each_function(mut file: impl BufRead, mut each: impl FnMut(u64, &str)) -> io::Result<()> {
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        if let Some((address, name)) = function_line(&line) {
            each(address, name);
        }
        line.clear();
    }
    Ok(())
}

/// A line is `ffffffff81000000 T name`, with a tab and `[module]` behind the names of modules.
fn function_line(line: &[u8]) -> Option<(u64, &str)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    let kind = fields.next()?;
    let name = fields.next()?;
    let function = matches!(kind, "T" | "t" | "W" | "w");
    (function && address != 0).then_some((address, name))
}

/// Compilers append `.constprop.0`, `.isra.0`, `.cold` and the like to the names of parts and
/// variants.
fn source_name(name: &str) -> &str {
    match name.find('.') {
        Some(0) | None => name,
        Some(dot) => &name[..dot],
    }
}

#[cfg(test)]
mod tests;
