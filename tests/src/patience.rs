//! Waiting for a condition, with a deadline and without blind sleeps.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(5);

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How many times longer than usual everything may take, in an emulated machine say.
const FACTOR: &str = "WHYREFUSED_TEST_PATIENCE";

/// The deadline for this machine.
///
/// # Panics
///
/// The variable `WHYREFUSED_TEST_PATIENCE` is set and no number from 1 to 1000.
pub fn patiently(deadline: Duration) -> Duration {
    static TIMES: LazyLock<u32> = LazyLock::new(|| {
        let Some(factor) = env::var_os(FACTOR) else {
            return 1;
        };
        let number = factor.to_str().and_then(|factor| factor.parse().ok());
        match number {
            Some(times @ 1..=1000) => times,
            _ => panic!("{FACTOR} is {}, no number from 1 to 1000", factor.display()),
        }
    });
    deadline * *TIMES
}

/// Asks `attempt` until it answers or `deadline` has passed, scaled for this machine.
///
/// # Errors
///
/// The deadline passed, or `attempt` failed for good.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = patiently(deadline);
    let started = Instant::now();
    loop {
        if let Some(answer) = attempt()? {
            return Ok(answer);
        }
        if started.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(STEP);
    }
}
