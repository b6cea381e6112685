//! A thread that writes what is handed to it, and a bounded queue in front of it.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Notify;

/// Bytes that may wait while the thread writes as many again.
const ROOM: usize = 2 << 20;

/// Written at a time, so that it is known how far a slow reader got.
const PIECE: usize = 64 << 10;

/// How often a full disk is tried again, and an idle pipe looked at.
const PAUSE: Duration = Duration::from_millis(400);

/// How the writing went so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Everything that the reader took, or is still to take, went well.
    Done,
    /// The reader closed its end: there is nobody to write for.
    PipeClosed,
    /// The last write failed, for this reason; it is tried again.
    Failed(String),
}

#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was queued, or the queue is closing, or the thread is done.
    changed: Condvar,
    reader_gone: Notify,
}

#[derive(Debug)]
struct Queue {
    waiting: Batch,
    /// Events in the thread's hands that are not wholly written.
    in_hand: u64,
    closing: bool,
    thread_done: bool,
    written: Written,
}

/// Rendered events, one behind the other.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            waiting: Batch::default(),
            in_hand: 0,
            closing: false,
            thread_done: false,
            written: Written::Done,
        }
    }
}

impl Writer {
    pub fn start(output: File) -> io::Result<Writer> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("whyrefused-out".to_owned())
            .spawn(move || of_thread.write_until_closed(&output))?;
        Ok(Writer { shared })
    }

    /// Whether another event may be queued.
    pub fn has_room(&self) -> bool {
        self.shared.lock().waiting.bytes.len() < ROOM
    }

    /// Queues an event, whether there is room or not.
    pub fn push(&self, event: &[u8]) {
        let mut queue = self.shared.lock();
        queue.waiting.bytes.extend_from_slice(event);
        let end = queue.waiting.bytes.len();
        queue.waiting.ends.push(end);
        self.shared.changed.notify_all();
    }

    pub fn written(&self) -> Written {
        self.shared.lock().written.clone()
    }

    pub async fn reader_gone(&self) {
        self.shared.reader_gone.notified().await;
    }

    /// Waits until all is written, at most for `patience`; tells how many events were not. A
    /// thread that hangs in a write is left behind: it ends with the process.
    pub fn finish(self, patience: Duration) -> (Written, u64) {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.lock();
        queue.closing = true;
        self.shared.changed.notify_all();
        while !queue.thread_done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.shared.wait(queue, left);
        }
        let unwritten = queue.in_hand + queue.waiting.len();
        (queue.written.clone(), unwritten)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        self.changed
            .wait_timeout(queue, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn write_until_closed(&self, output: &File) {
        while let Some(batch) = self.next_batch(output) {
            if !self.write_batch(output, &batch) {
                break;
            }
        }
        self.lock().thread_done = true;
        self.changed.notify_all();
    }

    /// The next events to write; nothing where the queue is closed and empty, or the reader gone.
    fn next_batch(&self, output: &File) -> Option<Batch> {
        let mut queue = self.lock();
        loop {
            if !queue.waiting.ends.is_empty() {
                let batch = std::mem::take(&mut queue.waiting);
                queue.in_hand = batch.len();
                return Some(batch);
            }
            if queue.closing {
                return None;
            }
            queue = self.wait(queue, PAUSE);
            if queue.waiting.ends.is_empty() && reader_has_gone(output) {
                self.note_reader_gone(&mut queue);
                return None;
            }
        }
    }

    /// Writes a batch, for as long as it takes. False where no further one can be written.
    fn write_batch(&self, mut output: &File, batch: &Batch) -> bool {
        let mut done = 0;
        while done < batch.bytes.len() {
            let piece = &batch.bytes[done..batch.bytes.len().min(done + PIECE)];
            match output.write(piece) {
                Ok(0) => {
                    if !self.pause_after(&ErrorKind::WriteZero.into()) {
                        return false;
                    }
                }
                Ok(count) => {
                    done += count;
                    let mut queue = self.lock();
                    queue.in_hand = batch.len_after(done);
                    queue.written = Written::Done;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(output),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.note_reader_gone(&mut self.lock());
                    return false;
                }
                Err(error) => {
                    if !self.pause_after(&error) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Remembers why a write failed, says so once for each row of failures, and waits before the
    /// next attempt. False where the trace is over.
    fn pause_after(&self, error: &io::Error) -> bool {
        let mut queue = self.lock();
        if queue.written == Written::Done {
            // There is nobody to tell that standard error is closed as well.
            let _ = writeln!(
                io::stderr(),
                "whyrefused: cannot write events: {error}; trying again, and counting what finds \
                 no room until then"
            );
        }
        queue.written = Written::Failed(error.to_string());
        if queue.closing {
            return false;
        }
        let until = Instant::now() + PAUSE;
        while !queue.closing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.wait(queue, left);
        }
        true
    }

    fn note_reader_gone(&self, queue: &mut Queue) {
        queue.written = Written::PipeClosed;
        self.reader_gone.notify_one();
    }
}

impl Batch {
    fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Events that are not wholly within the first `done` bytes.
    fn len_after(&self, done: usize) -> u64 {
        self.len() - self.ends.partition_point(|end| *end <= done) as u64
    }
}

/// A pipe or socket without a reader reports an error though nothing was asked of it (`poll(2)`).
fn reader_has_gone(output: &File) -> bool {
    let mut descriptors = [PollFd::new(output.as_fd(), PollFlags::empty())];
    let told = poll(&mut descriptors, PollTimeout::ZERO).unwrap_or(0);
    let events = descriptors[0].revents().unwrap_or(PollFlags::empty());
    told > 0 && events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
}

/// Somebody else made the descriptor non-blocking: wait as a blocking write would.
fn wait_for_room(output: &File) {
    let mut descriptors = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    // Whatever the answer, the next write tells more.
    let _ = poll(&mut descriptors, PollTimeout::from(400_u16));
}

#[cfg(test)]
mod tests;
