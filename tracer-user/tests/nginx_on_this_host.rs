//! A real nginx, found and read. It listens on a socket in a directory of its own alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use whyrefused::case::Endpoint;
use whyrefused::nginx::config::upstreams::Upstreams;
use whyrefused::nginx::config_path;
use whyrefused::nginx::executable::ExecutableCache;
use whyrefused::nginx::processes::{self, Instance, ProcessKey, Role};

const NGINX: &str = "/usr/sbin/nginx";

/// An nginx in a directory of its own, ended with the test.
struct Running {
    child: Child,
    directory: tempfile::TempDir,
}

impl Running {
    /// Starts an executable, or says why the test is skipped.
    fn start(name: &str, directives: &str) -> Option<Self> {
        if !Path::new(NGINX).exists() {
            eprintln!("skipped: {NGINX} is not there");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let executable = directory.path().join(name);
        // Were the copy written by this process, a child that another test forks meanwhile would
        // hold it open for writing, and executing it would fail with ETXTBSY.
        let copied = Command::new("cp").arg(NGINX).arg(&executable).status();
        assert!(copied.expect("cp is there").success());
        fs::create_dir(directory.path().join("conf.d")).expect("created");
        fs::write(directory.path().join("n.conf"), main_configuration()).expect("written");
        fs::write(
            directory.path().join("conf.d/app.conf"),
            "# the application\nupstream backend {\n    server 127.0.0.1:9101;\n}\n",
        )
        .expect("written");
        let child = Command::new(&executable)
            .args([
                "-p",
                "./",
                "-c",
                "n.conf",
                "-e",
                "error.log",
                "-g",
                directives,
            ])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        Some(Self { child, directory })
    }

    /// The instances that run in this directory.
    fn instances(&self) -> Vec<Instance> {
        let prefix = self.path("");
        let scan = processes::scan(&mut ExecutableCache::default());
        let is_own = |instance: &Instance| {
            instance.prefix.as_deref().map(Path::new) == Some(prefix.as_path())
        };
        scan.instances.into_iter().filter(is_own).collect()
    }

    /// The instance whose processes fulfil the condition, once there is one.
    fn instance(&self, ready: impl Fn(&Instance) -> bool) -> Instance {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(own) = self.instances().into_iter().find(&ready) {
                return own;
            }
            assert!(Instant::now() < deadline, "no such nginx is found");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    sent.expect("kill is there");
}

impl Drop for Running {
    fn drop(&mut self) {
        // A daemon is not our child, and an upgrade leaves two of them.
        let instances = self.instances();
        for instance in &instances {
            if let Some(process) = instance.master.or(instance.workers.first().copied()) {
                signal(process.pid, "-TERM");
            }
        }
        if instances.is_empty() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn main_configuration() -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path tmp_{name};\n"))
        .collect();
    format!(
        "worker_processes 2;\npid n.pid;\nevents {{ }}\nhttp {{\n{temporary}    access_log off;\n    \
         include conf.d/*.conf;\n    server {{\n        listen unix:n.sock;\n        \
         location / {{ proxy_pass http://backend; proxy_connect_timeout 3s; }}\n    }}\n}}\n"
    )
}

#[test]
fn a_renamed_nginx_is_found_with_its_workers_and_its_configuration() {
    let Some(nginx) = Running::start("front door", "daemon off;") else {
        return;
    };
    let found = nginx.instance(|instance| instance.workers.len() == 2);
    let master = found.master.expect("a master");
    assert_eq!(master.pid, nginx.child.id());
    let executable = nginx.path("front door").to_string_lossy().into_owned();
    assert_eq!(found.exe, Some(executable));
    let config = nginx.path("n.conf").to_string_lossy().into_owned();
    assert_eq!(found.config, Some(config.clone()));

    let mut cache = ExecutableCache::default();
    for process in &found.workers {
        let inspected = processes::inspect(process.pid, &mut cache).expect("a worker");
        assert_eq!(inspected.process, *process);
        let master = Some(master.pid);
        assert_eq!(inspected.role, Role::Worker { master });
        let worker = processes::worker(process.pid, &mut cache).expect("a worker");
        assert_eq!(worker.master_pid, master);
        assert_eq!(worker.config, Some(config.clone()));
        assert_eq!(Some(worker.netns), found.netns);
    }
}

#[test]
fn its_upstreams_are_read_through_its_own_root() {
    let Some(nginx) = Running::start("nginx", "daemon off; error_log error.log crit;") else {
        return;
    };
    let master = nginx.instance(|instance| instance.master.is_some()).master;
    let master = master.expect("a master").pid;
    let configuration = config_path::locate(master, &mut ExecutableCache::default());
    let configuration = configuration.expect("a configuration");
    assert_eq!(
        configuration.directives.as_deref(),
        Some("daemon off; error_log error.log crit;")
    );
    let upstreams = Upstreams::of_process(master, &configuration).expect("readable");
    assert_eq!(upstreams.problems, Vec::<String>::new());
    let dialled = Endpoint::Inet("127.0.0.1:9101".parse().expect("an address"));
    let found = upstreams.attribute(&dialled);
    assert_eq!(found.name.as_deref(), Some("backend"));
    let place = nginx.path("conf.d/app.conf");
    assert_eq!(found.server, Some(format!("{}:3", place.display())));
    assert_eq!(found.connect_timeout_ms, Some(3000));
}

#[test]
fn a_reload_brings_new_workers_and_an_upgraded_file_keeps_its_name() {
    let Some(nginx) = Running::start("nginx", "daemon off;") else {
        return;
    };
    let before = nginx.instance(|instance| instance.workers.len() == 2);
    fs::remove_file(nginx.path("nginx")).expect("removed");
    signal(nginx.child.id(), "-HUP");
    let after = nginx.instance(|instance| {
        instance.workers.len() == 2
            && !instance
                .workers
                .iter()
                .any(|worker| before.workers.contains(worker))
    });
    assert_eq!(after.master, before.master);
    assert_eq!(after.exe, before.exe);
}

#[test]
fn an_nginx_without_master_is_found_whatever_its_name() {
    let Some(nginx) = Running::start("relay", "daemon off; master_process off;") else {
        return;
    };
    let found = nginx.instance(|instance| !instance.workers.is_empty());
    assert_eq!(found.master, None);
    assert_eq!(found.workers[0].pid, nginx.child.id());
    let mut cache = ExecutableCache::default();
    let inspected = processes::inspect(nginx.child.id(), &mut cache).expect("an nginx");
    assert_eq!(inspected.role, Role::SingleProcess);
    let worker = processes::worker(nginx.child.id(), &mut cache).expect("an nginx");
    assert_eq!(worker.master_pid, None);
    assert_eq!(worker.config, found.config);
}

#[test]
fn the_second_master_of_a_binary_upgrade_is_an_instance_of_its_own() {
    // nginx ignores the signal unless it is a daemon (`ngx_signal_handler`).
    let Some(nginx) = Running::start("nginx", "daemon on;") else {
        return;
    };
    let first = nginx.instance(|instance| instance.workers.len() == 2);
    let first = first.master.expect("a master");
    signal(first.pid, "-USR2");
    let second = nginx.instance(|instance| {
        let another = |master: ProcessKey| master != first;
        instance.master.is_some_and(another) && instance.workers.len() == 2
    });
    let old = nginx.instance(|instance| instance.master == Some(first));
    assert_eq!(old.workers.len(), 2);
    assert!(old.workers.iter().all(|old| !second.workers.contains(old)));
}
