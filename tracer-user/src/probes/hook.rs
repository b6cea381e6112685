//! Loads and attaches one program.

use std::os::fd::{AsFd, OwnedFd};

use aya::{
    Ebpf,
    programs::{
        FEntry, FExit, KProbe, ProgramError, RawTracePoint, TracePoint, fentry::FEntryLink,
        fexit::FExitLink, kprobe::KProbeLink, raw_trace_point::RawTracePointLink,
    },
};

use super::{Hook, perf_event, tracing::Tracing};

/// A program at its place; dropping it detaches it.
#[expect(dead_code, reason = "they are held and never read")]
pub enum Attached {
    Raw(RawTracePointLink),
    Perf(OwnedFd),
    Entry(FEntryLink),
    Return(FExitLink),
    Probe(KProbeLink),
}

/// Attaches the program of that hook; one that was detached is still loaded. Errors say what the
/// kernel said.
pub fn attach(ebpf: &mut Ebpf, hook: Hook, tracing: &mut Tracing<'_>) -> Result<Attached, String> {
    let program = ebpf
        .program_mut(&hook.program())
        .ok_or("the eBPF object has no such program")?;
    let attached = match hook {
        Hook::Raw(name) | Hook::RawWith { name, .. } => {
            let program: &mut RawTracePoint = program.try_into().map_err(words)?;
            if program.fd().is_err() {
                program.load().map_err(words)?;
            }
            let link = program.attach(name).map_err(words)?;
            Attached::Raw(program.take_link(link).map_err(words)?)
        }
        Hook::Perf { category, name } => {
            let program: &mut TracePoint = program.try_into().map_err(words)?;
            if program.fd().is_err() {
                program.load().map_err(words)?;
            }
            let program = program.fd().map_err(words)?;
            Attached::Perf(perf_event::run_at(category, name, program.as_fd())?)
        }
        Hook::Entry(function) => {
            let program: &mut FEntry = program.try_into().map_err(words)?;
            let types = tracing.types()?;
            if program.fd().is_err() {
                program.load(function, types).map_err(words)?;
            }
            let link = program.attach().map_err(words)?;
            Attached::Entry(program.take_link(link).map_err(words)?)
        }
        Hook::Return(function) => {
            let program: &mut FExit = program.try_into().map_err(words)?;
            let types = tracing.types()?;
            if program.fd().is_err() {
                program.load(function, types).map_err(words)?;
            }
            let link = program.attach().map_err(words)?;
            Attached::Return(program.take_link(link).map_err(words)?)
        }
        Hook::ProbeEntry(function) | Hook::ProbeReturn(function) => {
            let program: &mut KProbe = program.try_into().map_err(words)?;
            if program.fd().is_err() {
                program.load().map_err(words)?;
            }
            let link = program.attach(function, 0).map_err(words)?;
            Attached::Probe(program.take_link(link).map_err(words)?)
        }
    };
    Ok(attached)
}

/// The innermost error is the kernel's, and the only one worth a line; behind it what the verifier
/// said last.
pub fn words(error: ProgramError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        words = error.to_string();
        source = error.source();
    }
    if let ProgramError::LoadError { verifier_log, .. } = &error {
        words.extend(last_complaint(&verifier_log.to_string()).map(|line| format!(": {line}")));
    }
    words
}

/// The line that says why a program was refused: the last one before the statistics.
fn last_complaint(log: &str) -> Option<String> {
    const STATISTICS: [&str; 4] = [
        "processed ",
        "verification time",
        "stack depth",
        "peak_states",
    ];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|word| line.starts_with(word)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::last_complaint;

    #[test]
    fn the_complaint_is_what_the_verifier_says_before_its_statistics() {
        let log = "0: (b7) r0 = 0\nR1 invalid mem access 'scalar'\nverification time 12 usec\n\
            stack depth 8\nprocessed 3 insns (limit 1000000)\n\n";
        assert_eq!(
            last_complaint(log).as_deref(),
            Some("R1 invalid mem access 'scalar'")
        );
        assert_eq!(last_complaint(""), None);
    }
}
