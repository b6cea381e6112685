//! What a kernel must have and allow for anything to be observed, and one message where it does
//! not: what is missing, and what to do next.
//!
//! The kernel is asked only once something has failed: an answer that is wrong stops nothing.

use std::error::Error;

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported},
};

use crate::btf::BtfError;

/// Why nothing can be observed, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Obstacle(String);

/// What the kernel answers when it is asked for a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// It does not say: `bpf()` failed with this error.
    Refused(i32),
}

/// What is asked of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kernel {
    ring_buffers: Answer,
    raw_tracepoints: Answer,
    /// Whether a program at a raw tracepoint may read the kernel's memory.
    reads: Answer,
}

const RING_BUFFERS: &str = "ring buffers for eBPF (BPF_MAP_TYPE_RINGBUF, as Linux 5.8 has)";
const RAW_TRACEPOINTS: &str = "eBPF programs at raw tracepoints (CONFIG_BPF_EVENTS)";
const TYPES: &str = "a description of its types (CONFIG_DEBUG_INFO_BTF)";

/// What the error comes from, where the kernel lacks or withholds what is needed; else the error
/// itself with its causes.
pub fn obstacle(error: &(dyn Error + 'static)) -> Obstacle {
    match error.downcast_ref() {
        // Another file is needed, whatever the kernel is like.
        Some(BtfError::Unreadable { .. } | BtfError::Unfit { .. }) => Obstacle(told(error)),
        Some(BtfError::Absent(_)) | None => Kernel::ask().obstacle(error),
    }
}

impl Kernel {
    fn ask() -> Self {
        Self {
            ring_buffers: Answer::of(is_map_supported(MapType::RingBuf).map_err(Into::into)),
            raw_tracepoints: Answer::of(is_program_supported(ProgramType::RawTracePoint)),
            reads: Answer::of(is_helper_supported(
                ProgramType::RawTracePoint,
                BpfHelper::BPF_FUNC_probe_read_kernel,
            )),
        }
    }

    fn obstacle(self, error: &(dyn Error + 'static)) -> Obstacle {
        let lacks = self.lacks(error.is::<BtfError>());
        let known = self.refusal().map(str::to_owned).or(lacks);
        Obstacle(known.unwrap_or_else(|| told(error)))
    }

    /// What it says where it refuses `bpf()` altogether, or what programs need of it.
    fn refusal(self) -> Option<&'static str> {
        let answers = [self.ring_buffers, self.raw_tracepoints];
        let is_refused = |errno| answers.contains(&Answer::Refused(errno));
        if is_refused(libc::ENOSYS) {
            return Some(
                "this kernel has no bpf() (ENOSYS): boot one that is built with CONFIG_BPF_SYSCALL=y",
            );
        }
        if is_refused(libc::EPERM) || is_refused(libc::EACCES) {
            return Some(
                "bpf() is not permitted: this needs CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON, of the host's user \
                 namespace, and no seccomp filter against bpf(): run it as root on the host, or in a container with \
                 --privileged",
            );
        }
        // Whoever has ring buffers has `bpf_probe_read_kernel`, which is older: in lockdown's mode
        // `confidentiality` the verifier does not know it (`bpf_tracing_func_proto`).
        let is_locked_down = answers == [Answer::Yes; 2] && self.reads == Answer::No;
        is_locked_down.then_some(
            "this kernel is locked down (confidentiality) and lets no eBPF program read its memory: boot it with \
             lockdown=integrity, or without lockdown",
        )
    }

    /// All that it lacks, in one sentence. Types that are missing alone can come from a file.
    fn lacks(self, types: bool) -> Option<String> {
        let mut lacks: Vec<_> = [
            (self.ring_buffers, RING_BUFFERS),
            (self.raw_tracepoints, RAW_TRACEPOINTS),
        ]
        .into_iter()
        .filter(|(answer, _)| *answer == Answer::No)
        .map(|(_, lack)| lack)
        .collect();
        if lacks.is_empty() {
            return None;
        }
        lacks.extend(types.then_some(TYPES));
        Some(format!(
            "this kernel lacks {}: boot a newer one, or one that is built with it",
            lacks.join(", and ")
        ))
    }
}

impl Answer {
    fn of(answer: Result<bool, ProgramError>) -> Self {
        match answer {
            Ok(true) => Self::Yes,
            Ok(false) => Self::No,
            Err(ProgramError::SyscallError(SyscallError { io_error, .. })) => {
                Self::Refused(io_error.raw_os_error().unwrap_or_default())
            }
            Err(_) => Self::Refused(0),
        }
    }
}

/// The error and its causes in one line; many a message has its cause in it already.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::{EbpfError, maps::MapError};

    use super::*;
    use crate::probes::ProbesError;

    const ABLE: Kernel = Kernel {
        ring_buffers: Answer::Yes,
        raw_tracepoints: Answer::Yes,
        reads: Answer::Yes,
    };

    fn unmade(errno: i32) -> ProbesError {
        ProbesError::Object(Box::new(EbpfError::MapError(MapError::CreateError {
            name: "EVENTS".to_owned(),
            io_error: io::Error::from_raw_os_error(errno),
        })))
    }

    fn typeless() -> BtfError {
        BtfError::Absent("No such file or directory".to_owned())
    }

    #[test]
    fn a_kernel_that_lacks_types_alone_is_told_of_the_option() {
        let message = ABLE.obstacle(&typeless()).to_string();
        assert!(message.contains("CONFIG_DEBUG_INFO_BTF"), "{message}");
        assert!(message.contains("--btf FILE"), "{message}");
    }

    #[test]
    fn a_kernel_as_old_as_4_19_lacks_everything_in_one_message() {
        let old = Kernel {
            ring_buffers: Answer::No,
            reads: Answer::No,
            ..ABLE
        };
        let message = old.obstacle(&typeless()).to_string();
        assert!(message.contains("BPF_MAP_TYPE_RINGBUF"), "{message}");
        assert!(message.contains("CONFIG_DEBUG_INFO_BTF"), "{message}");
        assert!(
            !message.contains("--btf") && !message.contains("lockdown"),
            "{message}"
        );
        let message = old.obstacle(&unmade(libc::EINVAL)).to_string();
        assert!(message.contains("BPF_MAP_TYPE_RINGBUF"), "{message}");
        assert!(!message.contains("BTF)"), "{message}");
    }

    #[test]
    fn a_kernel_without_raw_tracepoints_is_told_by_its_option() {
        let kernel = Kernel {
            raw_tracepoints: Answer::No,
            reads: Answer::No,
            ..ABLE
        };
        let message = kernel.obstacle(&unmade(libc::EINVAL)).to_string();
        assert!(message.contains("CONFIG_BPF_EVENTS"), "{message}");
        assert!(!message.contains("lockdown"), "{message}");
    }

    #[test]
    fn lockdown_is_told_by_what_programs_may_not_call() {
        let kernel = Kernel {
            reads: Answer::No,
            ..ABLE
        };
        let message = kernel.obstacle(&unmade(libc::EINVAL)).to_string();
        assert!(message.contains("lockdown=integrity"), "{message}");
    }

    #[test]
    fn a_refused_call_is_told_by_the_rights_or_the_option_that_it_needs() {
        let refused = |errno| Kernel {
            ring_buffers: Answer::Refused(errno),
            raw_tracepoints: Answer::Refused(errno),
            reads: Answer::Refused(errno),
        };
        let message = refused(libc::EPERM).obstacle(&unmade(libc::EPERM));
        assert!(message.to_string().contains("CAP_BPF"), "{message}");
        let message = refused(libc::ENOSYS).obstacle(&unmade(libc::ENOSYS));
        assert!(
            message.to_string().contains("CONFIG_BPF_SYSCALL"),
            "{message}"
        );
    }

    #[test]
    fn an_able_kernel_leaves_the_error_as_it_is_with_its_causes() {
        let message = ABLE.obstacle(&unmade(libc::ENOMEM)).to_string();
        assert!(
            message.contains("failed to create map `EVENTS`"),
            "{message}"
        );
        assert!(message.contains("Cannot allocate memory"), "{message}");
    }
}
