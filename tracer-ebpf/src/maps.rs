//! The maps. Each is bounded; an entry that finds no room is counted in `LOSSES`.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    Code, bound, heard, interest,
    layout::RuleLayout,
    record::{Address, Destination, Fate, Outcome, Tally, kind},
    stand_in,
};

use crate::{emit::current, kernel::layout};

/// Processes whose connections are observed, by process id; the value is a `role`.
#[map]
pub static TASKS: HashMap<u32, u32> = HashMap::with_max_entries(bound::TASKS, 0);

/// Processes that hold a listening socket, by process id.
#[map]
pub static OWNERS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(bound::OWNERS, 0);

/// What there is to look for, by `tracer_common::interest`. An element of an array costs next to
/// nothing to read: as long as all goes well the dearer maps are not looked into.
#[map]
pub static INTERESTS: Array<u32> = Array::with_max_entries(interest::COUNT, 0);

/// The last `connect()` or `bind()` of each thread of nginx, by thread id.
#[map]
pub static CALLS: HashMap<u32, Call> = HashMap::with_max_entries(bound::CALLS, 0);

/// Sockets of nginx in SYN_SENT and connections that stand, by their address in the kernel.
#[map]
pub static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(bound::ATTEMPTS, 0);

/// Connections that an error ended and that nginx still holds.
#[map]
pub static BROKEN: LruHashMap<u64, Attempt> = LruHashMap::with_max_entries(bound::BROKEN, 0);

/// Destinations that nginx dialled lately: what answers them is observed in every namespace.
#[map]
pub static DIALLED: LruHashMap<Destination, u32> = LruHashMap::with_max_entries(bound::DIALLED, 0);

/// Local addresses of attempts that outlived `connect()`. They recognise the packets of an
/// attempt whose destination was translated.
#[map]
pub static WAITING: LruHashMap<Destination, u64> = LruHashMap::with_max_entries(bound::WAITING, 0);

/// Destinations that failed and whose next success is wanted; user space takes them out.
#[map]
pub static RECOVERING: HashMap<Destination, u32> = HashMap::with_max_entries(bound::RECOVERING, 0);

/// Sockets of attempts that failed and that nginx still holds.
#[map]
pub static FAILED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(bound::FAILED, 0);

/// Threads of nginx that met a failure or may meet one, by thread id.
#[map]
pub static FAILING: LruHashMap<u32, Failing> = LruHashMap::with_max_entries(bound::FAILING, 0);

/// How many attempts failed in which way.
#[map]
pub static OUTCOMES: PerCpuHashMap<Outcome, Tally> =
    PerCpuHashMap::with_max_entries(bound::OUTCOMES, 0);

/// Lines of error logs that nothing but themselves announces, in the present window.
#[map]
pub static UNANNOUNCED: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(bound::RING, 0);

/// Records that found no room in the ring buffer, by kind; index 0 counts map entries. All in one
/// element: while user space reads one, kernels before `trace_call_bpf_faultable` run no program
/// at a system call on that processor (`bpf_disable_instrumentation`).
#[map]
pub static LOSSES: PerCpuArray<[u64; kind::COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);

/// Which programs have met a call of our own, by `tracer_common::heard`.
#[map]
pub static HEARD: Array<u32> = Array::with_max_entries(heard::COUNT, 0);

/// The code that runs the rules of hooks; filled in where the kernel does not say why it drops.
#[map]
pub static HOOK_CODE: Array<Code> = Array::with_max_entries(bound::HOOK_CODE, 0);

/// How many dropped packets of neighbours this processor told lately.
#[map]
pub static NEIGHBOUR_CREDIT: PerCpuArray<Credit> = PerCpuArray::with_max_entries(1, 0);

/// For whom the first program of a tracepoint was run on this processor, by
/// `tracer_common::stand_in`.
#[map]
pub static SHIFTS: PerCpuArray<Shift> = PerCpuArray::with_max_entries(stand_in::COUNT, 0);

/// What the first program of a tracepoint did while its stand-in was at work, by the same: the places
/// of `tracer_common::stand_in::turn`.
#[map]
pub static TURNS: PerCpuArray<[u64; stand_in::turn::COUNT]> =
    PerCpuArray::with_max_entries(stand_in::COUNT, 0);

/// For whom the first program of a tracepoint was run.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shift {
    /// Threads for which it was run and its stand-in was not yet, plus 1, each in the place that
    /// its last bits give; else 0.
    pub done_for: [u32; THREADS_OF_A_SHIFT],
}

/// A power of two.
pub const THREADS_OF_A_SHIFT: usize = 16;

/// The same of those that met a rule.
#[map]
pub static RULE_CREDIT: PerCpuArray<Credit> = PerCpuArray::with_max_entries(1, 0);

/// Rules whose memory was told lately, by the address of the expression that decides.
#[map]
pub static RULES: LruHashMap<u64, ToldRule> = LruHashMap::with_max_entries(bound::RULES, 0);

/// Where the fields of nftables' structures lie; user space sets it once its module is there.
#[map]
pub static RULE_LAYOUT: Array<RuleLayout> = Array::with_max_entries(1, 0);

/// When a rule's memory was told, and of which generation of the rules.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToldRule {
    pub at: u64,
    pub generation: u32,
    pub reserved: u32,
}

/// What was told since a moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Credit {
    pub since: u64,
    pub told: u64,
}

/// What is awaited of a thread of nginx.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Failing {
    /// When it last met a failure; 0 before the first.
    pub failed_at: u64,
    /// The same on the clock of `tcp_jiffies32`.
    pub failed_jiffies: u32,
    /// How many lines of it are still taken for failures that were told.
    pub credit: u32,
    /// Until when an unanswered attempt may lead to a line.
    pub waits_until: u64,
    /// When it last wrote a line that was told.
    pub wrote_at: u64,
    /// How many closes of upstream connections are still told for such lines.
    pub closes: u64,
}

/// What is used up of a budget.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Budget {
    pub window: u64,
    pub used: u64,
}

/// A `connect()` or `bind()`. The entry stays with its thread: to write a new call into it costs
/// less than to make and remove one for each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// 1 until the call returns.
    pub under_way: u32,
    /// 1 once the socket left SYN_SENT again without an error before the call returned.
    pub closed: u32,
    pub started: u64,
    /// The socket that entered SYN_SENT inside this call; 0 before that.
    pub socket: u64,
    /// The caller's pointer to the address, and its length.
    pub user_address: u64,
    pub user_length: u32,
    pub family: u32,
    pub address: Address,
    /// What was of the socket when it was closed.
    pub local: Address,
    pub remote: Address,
    pub netns: u32,
    pub descriptor: u32,
    /// The error that the security modules answered with, positive; 0 for none.
    pub denied: u32,
    /// When a function behind a call returned, in units of about a millisecond, not 0; 0 once the
    /// tracepoint of the call's return was met, or another call began.
    pub function_left: u32,
}

/// An attempt from SYN_SENT on; once it succeeded, the connection until nginx closes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Attempt {
    pub started: u64,
    /// When the connection stood; 0 in SYN_SENT.
    pub established: u64,
    pub fin_at: u64,
    pub broken_at: u64,
    pub reset_at: u64,
    pub reset_sent: Fate,
    pub no_socket: Fate,
    pub dialled: Address,
    pub tgid: u32,
    pub tid: u32,
    /// Local address under which it stands in `WAITING`; family 0 where it does not.
    pub waiting: Address,
}

/// Notes that a program has met a call of our own.
#[inline(always)]
pub fn hear(which: u32) {
    let (tgid, _) = current();
    if tgid == layout!(own_process)
        && let Some(heard) = HEARD.get_ptr_mut(which)
    {
        // SAFETY: elements are aligned numbers, read and written whole.
        unsafe { *heard = 1 };
    }
}

/// Whether the address is in code that runs the rules of a hook.
#[inline(always)]
pub fn in_a_hook(address: u64) -> bool {
    for index in 0..bound::HOOK_CODE {
        let Some(code) = HOOK_CODE.get_ptr(index) else {
            return false;
        };
        // SAFETY: user space fills it in before the trace begins, and never changes it.
        let code = unsafe { &*code };
        if code.start < address && address <= code.end {
            return true;
        }
    }
    false
}

/// Whether anything of that kind is to be looked for.
#[inline(always)]
pub fn interested(which: u32) -> bool {
    // SAFETY: elements are aligned numbers, read and written whole.
    INTERESTS
        .get_ptr(which)
        .is_some_and(|count| unsafe { *count } != 0)
}

/// Looks for things of that kind from now on.
#[inline(always)]
pub fn become_interested(which: u32) {
    if let Some(count) = INTERESTS.get_ptr_mut(which) {
        // SAFETY: elements are aligned numbers, read and written whole.
        unsafe { *count = 1 };
    }
}

/// The call that the thread is in.
#[inline(always)]
pub fn under_way(tid: u32) -> Option<*mut Call> {
    CALLS
        .get_ptr_mut(tid)
        // SAFETY: only the thread itself writes its entry.
        .filter(|call| unsafe { (**call).under_way } == 1)
}
