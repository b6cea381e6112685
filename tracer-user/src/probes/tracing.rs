//! Whether programs of the tracing kind (fentry, fexit) can be had, and what they need.

use aya::{Endianness, programs::ProgramType, sys::is_program_supported};

use crate::btf::Btf;

/// The kernel's types as aya wants them. They are read when a program first needs them: that takes
/// long, and megabytes.
pub enum Tracing<'a> {
    Unread(&'a Btf),
    Refused(String),
    Ready(Box<aya::Btf>),
}

impl Tracing<'_> {
    /// The kernel's types, or why there is no use in them.
    pub fn types(&mut self) -> Result<&aya::Btf, String> {
        if let Self::Unread(btf) = self {
            *self = match read(btf) {
                Ok(types) => Self::Ready(Box::new(types)),
                Err(reason) => Self::Refused(reason),
            };
        }
        match self {
            Self::Ready(types) => Ok(types),
            Self::Refused(reason) => Err(reason.clone()),
            Self::Unread(_) => Err("the kernel's types were not read".to_owned()),
        }
    }
}

fn read(btf: &Btf) -> Result<aya::Btf, String> {
    // A function is told to the kernel by its number: that of another kernel's is another function.
    if !btf.is_the_kernels_own() {
        return Err("the types are not the kernel's own".to_owned());
    }
    supported()?;
    aya::Btf::parse(btf.bytes(), Endianness::default()).map_err(|error| error.to_string())
}

/// Asks with a program that is attached to nothing: a kernel that knows the kind complains of
/// just that. Without a root aya finds no types to attach it to, which would take it as long as
/// the answer saves.
fn supported() -> Result<(), String> {
    let asked = super::attach::rootless(|| is_program_supported(ProgramType::Tracing));
    match asked {
        Some(Ok(true)) => Ok(()),
        Some(Ok(false)) | None => Err("the kernel has no programs of this kind".to_owned()),
        Some(Err(error)) => Err(super::hook::words(error)),
    }
}
