//! nginx's configuration as text on disk: what it dials, and how.

mod address;
mod glob;
pub mod hosts;
mod lua;
mod scope;
mod servers;
pub mod source;
mod token;
pub mod tree;
pub mod upstreams;
