//! nginx on this host: its processes, its configuration and what it logs.

pub mod config;
pub mod config_path;
mod elf;
pub mod error_log;
pub mod executable;
pub mod processes;
mod title;
