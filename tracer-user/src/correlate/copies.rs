//! Lines that a worker writes to more than one error log.

use std::collections::HashMap;

/// Threads whose last line is remembered.
const THREADS: usize = 4_096;

/// The last line of each thread, and the descriptor that it was written to. `ngx_log_error_core`
/// writes the same bytes to one log after the other with nothing between, and in the same order
/// every time: the same line to another descriptor is a copy, and to the same one it was said again.
#[derive(Debug, Default)]
pub struct Copies {
    last: HashMap<u32, (u32, String)>,
}

impl Copies {
    /// Whether the thread wrote the line to another log already.
    pub fn is_one(&mut self, tid: u32, descriptor: u32, text: &str) -> bool {
        if let Some((first, last)) = self.last.get(&tid)
            && last == text
        {
            return *first != descriptor;
        }
        if self.last.len() >= THREADS && !self.last.contains_key(&tid) {
            self.last.clear();
        }
        self.last.insert(tid, (descriptor, text.to_owned()));
        false
    }
}
