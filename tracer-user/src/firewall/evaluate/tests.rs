//! The evaluator as a whole. That it agrees with the kernel is shown by the test
//! `packet_filter_oracle`.

mod any;
mod example;
mod neighbours;
mod ways;
