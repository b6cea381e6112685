//! Work on several things at once.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// A guest has one processor. More guests than these gain little, and take memory.
const MOST: usize = 4;

/// The memory of a guest with that of its emulator, in KiB.
const MEMORY: usize = 2304 * 1024;

/// As many guests as this host has processors and free memory for.
pub fn guests_at_once() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let fitting = available(&meminfo).map_or(MOST, |memory| memory / MEMORY);
    cores.min(MOST).min(fitting).max(1)
}

/// Does `work` on each of `jobs`, which begin in their order, on at most `at_once` at a time.
/// `done` gets what came of each as it comes.
pub fn run<J: Sync, R: Send>(
    jobs: &[J],
    at_once: usize,
    work: impl Fn(&J) -> R + Sync,
    mut done: impl FnMut(R),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once.min(jobs.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send(work(job)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for result in results {
            done(result);
        }
    });
}

/// The memory that is free or can be freed, in KiB.
fn available(meminfo: &str) -> Option<usize> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn two_at_once_wait_for_each_other_and_every_job_is_done() {
        let barrier = Barrier::new(2);
        let mut results = Vec::new();
        run(
            &[1, 2, 3, 4],
            2,
            |job| {
                barrier.wait();
                job * 10
            },
            |result| results.push(result),
        );
        results.sort_unstable();
        assert_eq!(results, [10, 20, 30, 40]);
    }

    #[test]
    fn available_memory_is_read_in_kib() {
        let meminfo = "MemTotal:       24676348 kB\nMemAvailable:   18874368 kB\n";
        assert_eq!(available(meminfo), Some(18_874_368));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
