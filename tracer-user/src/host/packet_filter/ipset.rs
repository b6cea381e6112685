//! The sets of `ipset` that rules refer to.
