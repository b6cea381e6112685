//! The surveyor's thread, and the way to it and back.

use std::{
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use tokio::sync::mpsc::{Receiver, channel};

use super::{Answer, Survey, Task};

/// Tasks that wait for the surveyor at one moment; what is above is counted as lost.
const QUEUE: usize = 32_768;

/// The thread, and the way to it.
pub struct Surveyor {
    tasks: Option<SyncSender<Task>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    refused: u64,
    /// Attempts that were handed over and not answered yet.
    outstanding: u64,
}

impl Surveyor {
    /// Starts the thread.
    pub fn start(survey: Survey) -> std::io::Result<Self> {
        let (tasks, inbox) = sync_channel(QUEUE);
        let (outbox, answers) = channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("surveyor".to_owned())
            .spawn(move || survey.run(&inbox, &outbox))?;
        Ok(Self {
            tasks: Some(tasks),
            answers,
            thread: Some(thread),
            refused: 0,
            outstanding: 0,
        })
    }

    /// Hands over a task; counts it as refused where the surveyor is too far behind.
    pub fn ask(&mut self, task: Task) -> bool {
        let Some(tasks) = &self.tasks else {
            return false;
        };
        let explains = matches!(task, Task::Explain(_));
        match tasks.try_send(task) {
            Ok(()) => {
                self.outstanding += u64::from(explains);
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.refused += 1;
                false
            }
        }
    }

    /// How many tasks were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The next answer; `None` once the thread has ended.
    pub async fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.recv().await?;
        if matches!(answer, Answer::Explained(_) | Answer::NoUpstream(_)) {
            self.outstanding -= 1;
        }
        Some(answer)
    }

    /// Attempts that were handed over and not answered yet.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Asks for no more and waits for what is outstanding, as long as the caller cares to poll
    /// [`Surveyor::answer`]. The thread ends by itself.
    pub fn finish(&mut self) {
        self.tasks = None;
        self.thread = None;
    }
}
