//! Runs a program at a tracepoint or a function by way of a perf event.
//!
//! aya does this too, but looks for tracefs at its usual places alone and has no way without, and
//! attaches only on the thread that owns all programs: the kernel may take long to remove a probe
//! at a function.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::bounded;

/// Bytes of a file that holds a number; the kernel's have at most twenty digits.
const MOST_NUMBER: u64 = 64;

/// Runs the program at the tracepoint until the event is dropped. Errors say what was tried.
pub fn run_at(category: &str, name: &str, program: BorrowedFd<'_>) -> Result<OwnedFd, String> {
    let event = perf_event(PERF_TYPE_TRACEPOINT, tracepoint_id(category, name)?, None)?;
    run_on(event.as_fd(), program)?;
    Ok(event)
}

/// Runs the program at the entry of a function of the kernel or a module, by kprobe, until the
/// event is dropped. Errors say what was tried.
pub fn run_at_function(name: &str, program: BorrowedFd<'_>) -> Result<OwnedFd, String> {
    let function = CString::new(name).map_err(|_| "a function's name with a NUL".to_owned())?;
    let event = perf_event(kprobe_type()?, 0, Some(&function))?;
    run_on(event.as_fd(), program)?;
    Ok(event)
}

/// The number under which perf knows kprobes; the error says that the kernel has none.
pub fn kprobe_type() -> Result<u32, String> {
    const PATH: &str = "/sys/bus/event_source/devices/kprobe/type";
    let text = bounded::read(PATH, MOST_NUMBER)
        .map_err(|error| format!("the kernel has no kprobes: reading {PATH}: {error}"))?;
    number(&text).ok_or_else(|| format!("{PATH} holds no number"))
}

/// The number under which the kernel knows a tracepoint. tracefs is not mounted everywhere; a
/// mount of our own that is attached nowhere leaves the host as it is and ends with its file.
fn tracepoint_id(category: &str, name: &str) -> Result<u64, String> {
    let event = format!("events/{category}/{name}/id");
    let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(|root| Path::new(root).join(&event))
        .find(|path| path.exists());
    let text = match mounted {
        Some(path) => bounded::read(&path, MOST_NUMBER)
            .map_err(|error| format!("reading {}: {error}", path.display()))?,
        None => read_detached(&event)?,
    };
    number(&text).ok_or_else(|| format!("tracefs gives no number for {category}:{name}"))
}

/// What such a file says in digits and a line's end.
fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn read_detached(event: &str) -> Result<Vec<u8>, String> {
    let tracefs = detached_tracefs()
        .map_err(|error| format!("tracefs is not mounted and cannot be opened: {error}"))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", tracefs.as_raw_fd())).join(event);
    bounded::read(path, MOST_NUMBER).map_err(|error| format!("reading {event} of tracefs: {error}"))
}

fn detached_tracefs() -> std::io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_int = 6;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the pointer is to a NUL-terminated string, as fsopen(2) takes it.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 1) })?;
    // SAFETY: this command of fsconfig(2) takes neither key nor value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    };
    if created < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: fsmount(2) takes numbers alone.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) })
}

fn owned(result: libc::c_long) -> std::io::Result<OwnedFd> {
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// `PERF_TYPE_TRACEPOINT`.
const PERF_TYPE_TRACEPOINT: u32 = 2;

/// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER1`.
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    /// `kprobe_func` of a kprobe.
    function: u64,
    /// `probe_offset` of a kprobe.
    offset: u64,
}

fn perf_event(kind: u32, id: u64, function: Option<&CStr>) -> Result<OwnedFd, String> {
    const PERF_FLAG_FD_CLOEXEC: u64 = 8;
    let attributes = PerfEventAttr {
        kind,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        sample_period: 1,
        sample_type: 0,
        read_format: 0,
        flags: 0,
        wakeup_events: 0,
        breakpoint_type: 0,
        function: function.map_or(0, |name| name.as_ptr() as u64),
        offset: 0,
    };
    // SAFETY: the attributes and the name live as long as the call, and the attributes tell their
    // own size. A program on such an event runs on every processor, whichever one the event is
    // opened on (`perf_event_attach_bpf_prog`).
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    })
    .map_err(|error| format!("perf_event_open: {error}"))
}

fn run_on(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), String> {
    const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
    // SAFETY: this request takes the descriptor of a program.
    let set = unsafe {
        libc::ioctl(
            event.as_raw_fd(),
            PERF_EVENT_IOC_SET_BPF,
            program.as_raw_fd(),
        )
    };
    // SAFETY: this request takes nothing.
    let enabled = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) };
    match set < 0 || enabled < 0 {
        true => Err(format!(
            "attaching to the perf event: {}",
            std::io::Error::last_os_error()
        )),
        false => Ok(()),
    }
}
