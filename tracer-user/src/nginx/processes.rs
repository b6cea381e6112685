//! Every nginx on the host, found by what it is: by process title and executable.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{SysconfVar, sysconf};

use crate::bounded;
use crate::case::{Netns, Worker};
use crate::cgroup;
use crate::clock;
use crate::nginx::config_path;
use crate::nginx::executable::{ExecutableCache, Recognised};
use crate::nginx::title::{Kind, Title};

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

/// What a process is within an nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Master,
    /// `master` is null where the master is gone.
    Worker {
        master: Option<u32>,
    },
    /// It runs with `master_process off` and does a worker's work.
    SingleProcess,
    /// Cache manager or loader: belongs to an nginx and dials nobody.
    Helper {
        master: Option<u32>,
    },
    /// The executable is nginx and the process has not yet become one of the above: it has just
    /// been started or forked, or it is a command such as `nginx -t`.
    Unsettled,
}

/// A process of an nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found {
    pub process: ProcessKey,
    pub role: Role,
}

/// One nginx: a master with its processes, or a process that needs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Null for `master_process off` and where the master is gone.
    pub master: Option<ProcessKey>,
    /// What dials upstreams, in order of pid.
    pub workers: Vec<ProcessKey>,
    pub helpers: Vec<ProcessKey>,
    /// As the process sees it.
    pub exe: Option<String>,
    /// The main configuration file, as the process sees it.
    pub config: Option<String>,
    pub prefix: Option<String>,
    /// Null where it can't be read.
    pub netns: Option<Netns>,
    /// The container's id, see [`cgroup::CgroupPlace`].
    pub container: Option<String>,
}

/// The result of looking at every process once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub instances: Vec<Instance>,
    /// To be inspected again, see [`Role::Unsettled`].
    pub unsettled: Vec<ProcessKey>,
}

/// Looks at every process in `/proc`.
pub fn scan(cache: &mut ExecutableCache) -> Scan {
    let mut scan = Scan::default();
    let mut groups: BTreeMap<Group, Vec<Found>> = BTreeMap::new();
    for pid in pids() {
        let Some(found) = inspect(pid, cache) else {
            continue;
        };
        let group = match found.role {
            Role::Unsettled => {
                scan.unsettled.push(found.process);
                continue;
            }
            Role::Master | Role::SingleProcess => Group::Of(pid),
            Role::Worker { master } | Role::Helper { master } => {
                master.map_or_else(|| Group::Orphans(exe(pid), netns(pid)), Group::Of)
            }
        };
        groups.entry(group).or_default().push(found);
    }
    scan.instances = groups
        .into_values()
        .filter_map(|members| instance(&members, cache))
        .collect();
    scan
}

/// What one process is; None where it is no nginx, or gone.
pub fn inspect(pid: u32, cache: &mut ExecutableCache) -> Option<Found> {
    // Nearly every process is another program: that is found out with the fewest reads.
    may_be_nginx(pid, cache).then_some(())?;
    let before = Stat::of(pid)?;
    let title = Title::parse(&cmdline(pid)?);
    let role = match (title, cache.recognise(pid)) {
        (_, Recognised::Other) | (None, Recognised::Unreadable) => return None,
        (Some(title), Recognised::Unreadable) if !title.known_product => return None,
        (Some(title), _) => titled_role(title.kind, &before),
        (None, Recognised::Nginx(_)) if polls(pid) => Role::SingleProcess,
        (None, Recognised::Nginx(_)) => Role::Unsettled,
    };
    // What was read belongs together only if it is still the same process.
    (Stat::of(pid)?.started == before.started).then_some(Found {
        process: ProcessKey {
            pid,
            started: before.started,
        },
        role,
    })
}

/// What a case tells about the process that dials; None where it is gone, or no nginx.
pub fn worker(pid: u32, cache: &mut ExecutableCache) -> Option<Worker> {
    let found = inspect(pid, cache)?;
    let master_pid = match found.role {
        Role::Worker { master } | Role::Helper { master } => master,
        Role::Master => Some(pid),
        Role::SingleProcess | Role::Unsettled => None,
    };
    let configuration = config_path::locate(master_pid.unwrap_or(pid), cache);
    Some(Worker {
        pid,
        master_pid,
        exe: exe(pid),
        config: configuration.map(|found| found.file),
        netns: netns(pid)?,
        container: cgroup::place(pid).container,
        uid: effective_uid(pid),
    })
}

/// When a process started, in clock ticks from boot; None where it is gone.
pub fn started(pid: u32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.started)
}

/// When a process started, in nanoseconds of the calendar's clock, less one clock tick at most.
pub fn started_at(pid: u32) -> Option<i64> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
    let tick = 1_000_000_000_i64.checked_div(ticks)?;
    let since_boot = i64::try_from(started(pid)?).ok()?.checked_mul(tick)?;
    clock::wall_at_boot().checked_add(since_boot)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Of(u32),
    /// Without a master, the executable and the network namespace say what belongs together.
    Orphans(Option<String>, Option<Netns>),
}

fn instance(members: &[Found], cache: &mut ExecutableCache) -> Option<Instance> {
    let with = |wanted: fn(Role) -> bool| -> Vec<ProcessKey> {
        let found = members.iter().filter(|found| wanted(found.role));
        found.map(|found| found.process).collect()
    };
    let master = with(|role| role == Role::Master).first().copied();
    let workers = with(|role| matches!(role, Role::Worker { .. } | Role::SingleProcess));
    let helpers = with(|role| matches!(role, Role::Helper { .. }));
    let first = master.or_else(|| workers.first().copied());
    let asked = first.or_else(|| helpers.first().copied())?.pid;
    let configuration = config_path::locate(asked, cache);
    Some(Instance {
        master,
        workers,
        helpers,
        exe: exe(asked),
        prefix: configuration.as_ref().map(|found| found.prefix.clone()),
        config: configuration.map(|found| found.file),
        netns: netns(asked),
        container: cgroup::place(asked).container,
    })
}

fn may_be_nginx(pid: u32, cache: &mut ExecutableCache) -> bool {
    // Kernel threads and zombies have no command line.
    if cmdline(pid).is_none_or(|cmdline| cmdline.is_empty()) {
        return false;
    }
    cache.recognise(pid) != Recognised::Other
}

fn titled_role(kind: Kind, stat: &Stat) -> Role {
    let master = || is_master(stat.parent).then_some(stat.parent);
    match kind {
        Kind::Master if forked_from_master(stat) => Role::Unsettled,
        Kind::Master => Role::Master,
        Kind::Worker => Role::Worker { master: master() },
        Kind::Single => Role::SingleProcess,
        Kind::Helper => Role::Helper { master: master() },
    }
}

/// A fork has the title of its master until it sets its own (`ngx_spawn_process`). The new master
/// of a binary upgrade is a master's child as well, yet it was executed: its stack lies elsewhere.
fn forked_from_master(stat: &Stat) -> bool {
    is_master(stat.parent)
        && Stat::of(stat.parent).is_some_and(|parent| parent.memory == stat.memory)
}

fn is_master(pid: u32) -> bool {
    cmdline(pid)
        .and_then(|cmdline| Title::parse(&cmdline))
        .is_some_and(|title| title.kind == Kind::Master)
}

/// Whether it holds an epoll instance: only what handles connections does, as it is made by
/// `ngx_event_process_init`. Tells `master_process off` from a process that is about to fork.
fn polls(pid: u32) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .take(4096)
        .flatten()
        .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .any(|target| target.as_os_str() == "anon_inode:[eventpoll]")
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Arguments may be huge; a title is not.
pub(super) fn cmdline(pid: u32) -> Option<Vec<u8>> {
    bounded::read(format!("/proc/{pid}/cmdline"), 64 * 1024).ok()
}

/// The path of the executable in its own mount namespace.
fn exe(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy();
    // The kernel says so after an upgrade replaced the file.
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}

/// The network namespace of a process; None where it is gone.
pub fn netns(pid: u32) -> Option<Netns> {
    let metadata = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
    Some(metadata.ino())
}

fn effective_uid(pid: u32) -> Option<u32> {
    let status = bounded::read(format!("/proc/{pid}/status"), 64 * 1024).ok()?;
    let status = String::from_utf8_lossy(&status).into_owned();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// What is used of `/proc/PID/stat`, see proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    started: u64,
    /// `startcode` and `startstack`: drawn anew by every execve, kept by fork.
    memory: (u64, u64),
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = bounded::read(format!("/proc/{pid}/stat"), 4096).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may itself hold parentheses and spaces.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            started: number(22)?,
            memory: (number(26)?, number(28)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    /// Ends the process with the test.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleep_called(name: &str) -> Running {
        let sleep = Command::new("sleep").arg0(name).arg("100").spawn();
        Running(sleep.expect("sleep is there"))
    }

    #[test]
    fn stat_is_read_behind_a_name_with_parentheses() {
        let text = "7 (a) R 1) S 42 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 \
                    1234 5000 100 18446744073709551615 94000 95000 140000 0 0";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                parent: 42,
                started: 1234,
                memory: (94000, 140000)
            })
        );
        assert_eq!(Stat::parse("7 (a) S 42"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn another_program_with_the_title_of_a_worker_is_no_nginx() {
        let sleep = sleep_called("nginx: worker process");
        assert_eq!(inspect(sleep.0.id(), &mut ExecutableCache::default()), None);
    }

    #[test]
    fn another_program_called_nginx_is_no_nginx() {
        let sleep = sleep_called("/usr/sbin/nginx");
        assert_eq!(inspect(sleep.0.id(), &mut ExecutableCache::default()), None);
    }

    #[test]
    fn a_process_that_is_gone_is_no_nginx() {
        assert_eq!(inspect(u32::MAX, &mut ExecutableCache::default()), None);
        assert_eq!(worker(u32::MAX, &mut ExecutableCache::default()), None);
        assert_eq!(started(u32::MAX), None);
    }

    #[test]
    fn our_own_process_can_be_read() {
        let pid = std::process::id();
        assert!(started(pid).is_some());
        assert!(netns(pid).is_some());
        assert_eq!(effective_uid(pid), Some(nix::unistd::geteuid().as_raw()));
        assert!(pids().contains(&pid));
    }
}
