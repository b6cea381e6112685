//! Whose rules the command `iptables` of this host shows.

use std::path::{Path, PathBuf};

use crate::case::Backend;

/// Where administrators' commands are, whatever this program's own `PATH` says.
const PLACES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// The backend of the command `iptables`, by the program that its links lead to; null where there
/// is none.
pub fn default_backend() -> Option<Backend> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(PLACES.map(PathBuf::from))
        .find_map(|place| std::fs::canonicalize(place.join("iptables")).ok())
        .map(|program| backend_of(&program))
}

/// `xtables-nft-multi` since iptables 1.8; whatever has another name has only the legacy one.
fn backend_of(program: &Path) -> Backend {
    let name = program.file_name().unwrap_or_default();
    if name.to_string_lossy().contains("nft") {
        Backend::IptablesNft
    } else {
        Backend::IptablesLegacy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_told_by_the_programs_name() {
        for (program, backend) in [
            ("/usr/sbin/xtables-nft-multi", Backend::IptablesNft),
            ("/usr/sbin/xtables-legacy-multi", Backend::IptablesLegacy),
            ("/sbin/xtables-multi", Backend::IptablesLegacy),
        ] {
            assert_eq!(backend_of(Path::new(program)), backend);
        }
    }
}
