//! The packet filter of a network namespace, as the kernel holds it.

pub mod ipset;
pub mod legacy;
