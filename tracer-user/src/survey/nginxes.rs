//! The processes of every nginx, and what their configurations say.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    case::{Netns, Worker},
    event::NginxInstance,
    nginx::{
        config::upstreams::Upstreams,
        config_path,
        executable::ExecutableCache,
        processes::{self, Instance, Role, Scan},
    },
};

/// Workers whose identity is kept; far more than run at a time.
const WORKERS: usize = 4096;

/// The instances that were found, and what was read of them.
#[derive(Debug)]
pub struct Nginxes {
    /// Masters and workers to watch; empty for all.
    only: Vec<u32>,
    executables: ExecutableCache,
    scan: Scan,
    workers: HashMap<u32, Worker>,
    /// Processes that do or did a worker's work, as they were seen or born.
    serving: HashSet<u32>,
    configurations: HashMap<u32, Arc<Upstreams>>,
}

impl Nginxes {
    pub fn new(only: Vec<u32>) -> Self {
        let executables = ExecutableCache::default();
        let mut nginxes = Self {
            only,
            executables,
            scan: Scan::default(),
            workers: HashMap::new(),
            serving: HashSet::new(),
            configurations: HashMap::new(),
        };
        nginxes.look_around();
        nginxes
    }

    /// Looks at every process again; tells whether anything is different.
    pub fn look_around(&mut self) -> bool {
        let scan = processes::scan(&mut self.executables);
        let changed = scan != self.scan;
        self.scan = scan;
        let workers = self.scan.instances.iter().flat_map(|it| &it.workers);
        let workers: Vec<u32> = workers.map(|worker| worker.pid).collect();
        if self.serving.len() + workers.len() > WORKERS {
            self.serving.clear();
        }
        self.serving.extend(workers);
        changed
    }

    /// Reads the configurations now, so that the first failure need not wait for them.
    pub fn warm_up(&mut self) {
        let pids: Vec<u32> = self.watched().filter_map(instance_pid).collect();
        for pid in pids {
            self.configuration(pid);
        }
    }

    /// A process of each instance and the Unix sockets that it is configured to dial.
    pub fn unix_paths(&mut self) -> Vec<(u32, Vec<Vec<u8>>)> {
        let pids: Vec<u32> = self.watched().filter_map(instance_pid).collect();
        pids.into_iter()
            .map(|pid| (pid, self.configuration(pid).unix_paths()))
            .collect()
    }

    /// The processes to observe: masters, as what they fork is then observed from birth, workers,
    /// and what may become one of them.
    pub fn observed(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .watched()
            .flat_map(|instance| {
                let narrowed = !self.only.is_empty() && !self.names_master(instance);
                let master = instance.master.filter(|_| !narrowed);
                let workers = instance
                    .workers
                    .iter()
                    .filter(move |worker| !narrowed || self.only.contains(&worker.pid));
                master.into_iter().chain(workers.copied())
            })
            .map(|process| process.pid)
            .collect();
        if self.only.is_empty() {
            pids.extend(self.scan.unsettled.iter().map(|process| process.pid));
        }
        pids
    }

    /// The instances, as `session` tells them.
    pub fn instances(&self) -> Vec<NginxInstance> {
        self.watched()
            .map(|instance| NginxInstance {
                master_pid: instance.master.map(|master| master.pid),
                workers: instance.workers.iter().map(|worker| worker.pid).collect(),
                exe: instance.exe.clone(),
                config: instance.config.clone(),
                netns: instance.netns.unwrap_or(0),
                container: instance.container.clone(),
            })
            .collect()
    }

    /// The namespaces in which instances run, or are about to.
    pub fn namespaces(&self) -> Vec<Netns> {
        let unsettled = self.scan.unsettled.iter().filter(|_| self.only.is_empty());
        let mut found: Vec<Netns> = self
            .watched()
            .filter_map(|instance| instance.netns)
            .chain(unsettled.filter_map(|process| processes::netns(process.pid)))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Who made an attempt. A worker that is gone already is known by what was read before, or
    /// by its number alone.
    pub fn worker(&mut self, pid: u32, netns: Option<Netns>) -> Worker {
        if let Some(worker) = self.workers.get(&pid) {
            return worker.clone();
        }
        let Some(worker) = processes::worker(pid, &mut self.executables) else {
            return self.gone(pid, netns);
        };
        if self.workers.len() >= WORKERS {
            self.workers.clear();
        }
        self.workers.insert(pid, worker.clone());
        worker
    }

    /// What the configuration of that worker says, as it is on disk.
    pub fn configured(&mut self, worker: &Worker) -> Arc<Upstreams> {
        self.configuration(worker.master_pid.unwrap_or(worker.pid))
    }

    /// A process forked: a master does so after it has read its configuration again.
    pub fn forked(&mut self, parent: u32, child: u32) {
        self.configurations.remove(&parent);
        self.workers.remove(&child);
        // It does not have its own title yet, and may be gone before it is looked at.
        let mut masters = self.scan.instances.iter().filter_map(|it| it.master);
        match masters.any(|master| master.pid == parent) {
            true => self.serving.insert(child),
            false => self.serving.remove(&child),
        };
    }

    /// A process executed a program: what was known of it is over.
    pub fn executed(&mut self, pid: u32) {
        self.workers.remove(&pid);
        self.serving.remove(&pid);
    }

    /// The process does a worker's work, or did until it ended. One that was executed, and neither
    /// forked nor polls, does not: it is a command such as `nginx -t`, or about to become a master.
    pub fn serves(&mut self, pid: u32) -> bool {
        self.serving.contains(&pid)
            || processes::inspect(pid, &mut self.executables).is_some_and(|found| {
                matches!(found.role, Role::Worker { .. } | Role::SingleProcess)
            })
    }

    /// The process is one of an instance that was found.
    pub fn is_known(&self, pid: u32) -> bool {
        self.scan.instances.iter().any(|instance| {
            let mut all = instance.master.iter().chain(&instance.workers);
            all.any(|process| process.pid == pid)
        })
    }

    /// The process is an nginx and of no instance that was found.
    pub fn belongs_to_none_yet(&mut self, pid: u32) -> bool {
        !self.is_known(pid) && processes::inspect(pid, &mut self.executables).is_some()
    }

    /// The process is an nginx that is not observed yet.
    pub fn is_unknown_nginx(&mut self, pid: u32) -> bool {
        self.only.is_empty()
            && !self.observed().contains(&pid)
            && processes::inspect(pid, &mut self.executables).is_some()
    }

    /// The process is there and is no nginx, whatever it is called.
    pub fn is_certainly_none(&mut self, pid: u32) -> bool {
        processes::started(pid).is_some()
            && processes::inspect(pid, &mut self.executables).is_none()
            && processes::started(pid).is_some()
    }

    fn watched(&self) -> impl Iterator<Item = &Instance> {
        self.scan.instances.iter().filter(|instance| {
            let member = |pid: u32| instance.workers.iter().any(|worker| worker.pid == pid);
            self.only.is_empty()
                || self.names_master(instance)
                || self.only.iter().any(|pid| member(*pid))
        })
    }

    fn names_master(&self, instance: &Instance) -> bool {
        instance
            .master
            .is_some_and(|master| self.only.contains(&master.pid))
    }

    fn configuration(&mut self, pid: u32) -> Arc<Upstreams> {
        if let Some(known) = self.configurations.get(&pid) {
            return Arc::clone(known);
        }
        let read = config_path::locate(pid, &mut self.executables)
            .and_then(|found| Upstreams::of_process(pid, &found).ok())
            .unwrap_or_default();
        let read = Arc::new(read);
        if self.configurations.len() >= WORKERS {
            self.configurations.clear();
        }
        self.configurations.insert(pid, Arc::clone(&read));
        read
    }

    fn gone(&self, pid: u32, netns: Option<Netns>) -> Worker {
        let instance = self
            .scan
            .instances
            .iter()
            .find(|instance| instance.workers.iter().any(|worker| worker.pid == pid));
        Worker {
            pid,
            master_pid: instance.and_then(|i| i.master).map(|master| master.pid),
            exe: instance.and_then(|i| i.exe.clone()),
            config: instance.and_then(|i| i.config.clone()),
            netns: netns.or(instance.and_then(|i| i.netns)).unwrap_or(0),
            container: instance.and_then(|i| i.container.clone()),
            uid: None,
        }
    }
}

fn instance_pid(instance: &Instance) -> Option<u32> {
    let first = instance.master.or(instance.workers.first().copied());
    first.map(|process| process.pid)
}
