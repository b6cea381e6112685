//! Which attempt a line of the error log is about.

use super::{
    Correlator,
    lines::{Likeness, Line},
};
use crate::{case::KernelTime, evidence::Thread};

impl Correlator {
    /// Takes in a line that a worker wrote to a descriptor.
    pub(super) fn log_line(
        &mut self,
        at: KernelTime,
        thread: &Thread,
        descriptor: u32,
        text: &str,
    ) {
        let tid = thread.tid;
        if self.copies.is_one(tid, descriptor, text) {
            return;
        }
        let Some(line) = Line::parse(at, thread, text) else {
            return;
        };
        let Some(line) = self.announced(at, thread, line) else {
            return;
        };
        match self.whose(tid, &line) {
            Some(index) => self.waiting[index].take_line(line.parsed, at),
            None if self.lines.was_owed(tid, &line) => {}
            None => self.lines.keep(line),
        }
    }

    /// Which of the attempts that wait the line is about: rather one that ended just as it says
    /// than one that may have.
    fn whose(&self, tid: u32, line: &Line) -> Option<usize> {
        let fitting = |likeness: Likeness| {
            let index = self.waiting.iter().position(|waiting| {
                let ended = &waiting.ended;
                ended.thread.tid == tid
                    && ended.log.is_none()
                    && line.likeness(&ended.attempt) == Some(likeness)
            });
            index.map(|index| (index, likeness))
        };
        let (index, likeness) = fitting(Likeness::Same).or_else(|| fitting(Likeness::Possible))?;
        (!self.lines.is_owed_first(tid, line, likeness)).then_some(index)
    }
}
