//! Network namespaces of their own for the tests that need root.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::case::Netns;
use crate::host::netns::Namespace;

/// Whether the test may go on; prints why not.
pub fn root_or_skip() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Captured output would hide the reason of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: needs root");
    }
    root
}

/// Waits until `holds`, as the kernel takes note of a carrier's loss in a work of its own; the
/// test fails after five seconds.
pub fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that stands in a fresh network namespace for as long as this value lives.
pub struct Sandbox {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    tid: i32,
    inode: Netns,
}

impl Sandbox {
    /// A namespace whose loopback interface is up.
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (report, reported) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            report.send(nix::unistd::gettid().as_raw()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let tid = reported.recv().unwrap();
        let mut sandbox = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            tid,
            inode: 0,
        };
        sandbox.inode = sandbox.namespace().inode;
        sandbox.ip("link set lo up");
        sandbox
    }

    pub fn inode(&self) -> Netns {
        self.inode
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::at(format!("/proc/self/task/{}/ns/net", self.tid)).unwrap()
    }

    /// Runs `job` inside and returns what it returns.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.jobs
            .as_ref()
            .unwrap()
            .send(Box::new(move || answer.send(job()).unwrap()))
            .unwrap();
        answered.recv().unwrap()
    }

    /// Runs `ip` inside, which must succeed, and returns what it prints.
    pub fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || {
            let output = Command::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "ip {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// A process inside, so that the namespace is found from `/proc`.
    pub fn hold(&self) -> Holder {
        Holder(self.run(|| {
            Command::new("sleep")
                .arg("1000")
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        }))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A job that panicked has failed its test already.
            let _ = thread.join();
        }
    }
}

/// A sleeping process, killed on drop.
pub struct Holder(Child);

impl Holder {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
