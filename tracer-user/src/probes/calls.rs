//! Proof that a program at a function of a system call is met by the call: a compiler may have put
//! the function's body into its caller, and left the function for others.

use std::os::fd::RawFd;

use aya::maps::Array;
use tracer_common::heard;

use super::{Candidate, Hook, OBSERVATIONS, Probes, hook, tracing::Tracing};
use crate::event::RefusedCandidate;

/// No process has such a descriptor open.
const NONE: RawFd = -1;

/// A call of our own, which the kernel refuses, and where its program says that it met it.
#[derive(Clone, Copy)]
pub struct Call {
    index: u32,
    make: fn(),
}

/// The call that must meet a program at that hook.
pub fn of(hook: Hook) -> Option<Call> {
    let call = |index, make| Some(Call { index, make });
    match hook {
        Hook::Entry("__sys_connect") | Hook::ProbeEntry("__sys_connect") => {
            call(heard::CONNECT_ENTRY, connect)
        }
        Hook::Return("__sys_connect") | Hook::ProbeReturn("__sys_connect") => {
            call(heard::CONNECT_RETURN, connect)
        }
        Hook::Entry("__sys_bind") | Hook::ProbeEntry("__sys_bind") => call(heard::BIND_ENTRY, bind),
        Hook::Return("__sys_bind") | Hook::ProbeReturn("__sys_bind") => {
            call(heard::BIND_RETURN, bind)
        }
        Hook::Return("__sys_socket") | Hook::ProbeReturn("__sys_socket") => {
            call(heard::SOCKET_RETURN, socket)
        }
        Hook::Return("__sys_listen") | Hook::ProbeReturn("__sys_listen") => {
            call(heard::LISTEN_RETURN, listen)
        }
        Hook::Entry("ksys_write") | Hook::ProbeEntry("ksys_write") => call(heard::WRITE, write),
        _ => None,
    }
}

/// Why a function behind a system call does not do.
const UNREACHED: &str = "nginx is under a seccomp filter, which refuses calls before that function";

impl Probes {
    /// Watches the system calls themselves where functions behind them are watched: a seccomp
    /// filter refuses a call before it gets there (`syscall_trace_enter`), and the tracepoint of
    /// its return alone tells.
    pub fn watch_for_refused_calls(&mut self) {
        for (index, observation) in OBSERVATIONS.iter().enumerate() {
            let used = |candidate: &&Candidate| {
                let via = self
                    .reports
                    .get(index)
                    .and_then(|report| report.via.as_deref());
                via == Some(candidate.to_string().as_str())
            };
            let Some(behind) = observation.candidates.iter().find(used) else {
                continue;
            };
            if !behind.0.iter().any(|hook| is_behind_a_filtered_call(*hook)) {
                continue;
            }
            let itself = observation.candidates.iter().find_map(the_call_itself);
            let attached = match itself {
                Some((_, hook)) => {
                    hook::attach(&mut self.ebpf, hook, &mut Tracing::Refused(String::new()))
                }
                None => Err("there is no such means".to_owned()),
            };
            let Some(report) = self.reports.get_mut(index) else {
                continue;
            };
            report.unavailable.push(RefusedCandidate {
                candidate: behind.to_string(),
                reason: UNREACHED.to_owned(),
            });
            report.via = match attached {
                Ok(attached) => {
                    // Only now are the others detached: a call whose beginning nobody meets would
                    // look refused. Of one that both meet one tells (`function_told`).
                    self.attached.insert(observation.name, vec![attached]);
                    // A kernel with stand-ins watches the calls themselves from the start.
                    itself.map(|(candidate, _)| candidate.to_string())
                }
                Err(reason) => {
                    log::warn!("{} is not observed any more: {reason}", observation.name);
                    self.attached.remove(observation.name);
                    None
                }
            };
        }
    }

    /// Makes the call, and sees whether its program met it.
    pub(super) fn hears(&mut self, call: Call) -> Result<(), String> {
        let map = self
            .ebpf
            .map_mut("HEARD")
            .ok_or("the eBPF object has no map called HEARD: the build is broken")?;
        let mut heard: Array<_, u32> = Array::try_from(map).map_err(|error| error.to_string())?;
        let set = heard.set(call.index, 0, 0);
        set.map_err(|error| error.to_string())?;
        (call.make)();
        match heard.get(&call.index, 0) {
            Ok(0) => Err("it does not meet the system call".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A filter on what other processes do does not matter, nor does one on `write()`: nginx would
/// have no log.
fn is_behind_a_filtered_call(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::Entry(function) | Hook::Return(function)
            | Hook::ProbeEntry(function) | Hook::ProbeReturn(function)
            if matches!(function, "__sys_connect" | "__sys_bind" | "__sys_socket")
    )
}

fn the_call_itself(candidate: &Candidate) -> Option<(Candidate, Hook)> {
    match candidate.0 {
        [hook @ Hook::Perf { .. }] => Some((*candidate, *hook)),
        _ => None,
    }
}

fn connect() {
    // SAFETY: without a length the kernel reads no address, and there is no such descriptor.
    let _ = unsafe { libc::connect(NONE, std::ptr::null(), 0) };
}

fn bind() {
    // SAFETY: without a length the kernel reads no address, and there is no such descriptor.
    let _ = unsafe { libc::bind(NONE, std::ptr::null(), 0) };
}

fn socket() {
    // SAFETY: the call takes numbers alone; there is no such family.
    let _ = unsafe { libc::socket(-1, 0, 0) };
}

fn listen() {
    // SAFETY: the call takes numbers alone; there is no such descriptor.
    let _ = unsafe { libc::listen(NONE, 0) };
}

fn write() {
    // SAFETY: without a length the kernel reads nothing, and there is no such descriptor.
    let _ = unsafe { libc::write(NONE, std::ptr::null(), 0) };
}
