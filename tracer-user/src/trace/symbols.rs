//! The kernel's function names, read while the trace already runs.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
};

use tracer_common::Code;

use crate::{
    case::Hook,
    correlate::Symbols,
    host::kallsyms::{Kallsyms, KallsymsError},
};

/// Reading takes long, and only dropped packets need it: a thread of its own does it, and whoever
/// asks first waits for the rest of it.
pub struct KernelSymbols {
    reading: Mutex<Option<JoinHandle<Result<Kallsyms, KallsymsError>>>>,
    read: OnceLock<Kallsyms>,
}

impl KernelSymbols {
    pub fn start() -> Self {
        Self {
            reading: Mutex::new(Some(std::thread::spawn(Kallsyms::read))),
            read: OnceLock::new(),
        }
    }

    /// Where the code lies that runs the rules of hooks; empty where the kernel hides it.
    pub fn code_of_hooks(&self) -> Vec<Code> {
        self.get().code_of_hooks()
    }

    fn get(&self) -> &Kallsyms {
        self.read.get_or_init(|| {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            match reading.take().map(JoinHandle::join) {
                Some(Ok(Ok(symbols))) => symbols,
                Some(Ok(Err(error))) => {
                    log::warn!("{error}");
                    Kallsyms::default()
                }
                Some(Err(_)) | None => Kallsyms::default(),
            }
        })
    }
}

impl Symbols for KernelSymbols {
    fn hook(&self, frames: &[u64]) -> Option<Hook> {
        self.get().hook_of(frames)
    }

    fn filters(&self, frames: &[u64]) -> Vec<String> {
        let filters = self.get().filters_in(frames);
        filters.map(str::to_owned).collect()
    }

    fn function(&self, address: u64) -> Option<String> {
        self.get().name_of(address).map(str::to_owned)
    }
}
