//! What a guest enforces. A module that denies by policy decides about the whole machine, so the
//! tests that need one run in a guest of their own.

use std::ffi::OsString;

/// What the tests that need a guest of their own have before their names.
const MANDATORY: &str = "mandatory::";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// As Debian boots, without the audit log.
    Ordinary,
    Apparmor,
    /// With Debian's policy (`payload.sh` loads it).
    Selinux,
}

impl Flavour {
    /// In the order of their boots.
    pub const ALL: [Self; 3] = [Self::Ordinary, Self::Apparmor, Self::Selinux];

    /// What the kernel's command line says of it.
    pub fn command_line(self) -> &'static str {
        match self {
            Self::Ordinary => "audit=0",
            Self::Apparmor => "security=apparmor",
            Self::Selinux => "security=selinux selinux=1",
        }
    }

    /// What the names of its files end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Ordinary => "",
            Self::Apparmor => "-apparmor",
            Self::Selinux => "-selinux",
        }
    }

    /// The arguments of its live tests, where `asked` are those of all; `None` where none of them
    /// is asked for.
    pub fn arguments(self, asked: &[OsString]) -> Option<Vec<OsString>> {
        let (options, names): (Vec<_>, Vec<_>) = asked.iter().cloned().partition(is_option);
        let Some(module) = self.module() else {
            let others = names.is_empty() || names.iter().any(|name| !starts(name, MANDATORY));
            let without = ["--skip", MANDATORY].map(OsString::from);
            return others.then(|| [asked, &without].concat());
        };
        let all = names.is_empty() || names.iter().any(|name| is_start_of(name, module));
        let own: Vec<OsString> = match all {
            true => vec![module.into()],
            false => names
                .into_iter()
                .filter(|name| starts(name, module))
                .collect(),
        };
        (!own.is_empty()).then(|| [own, options].concat())
    }

    /// Where its tests stand.
    fn module(self) -> Option<&'static str> {
        match self {
            Self::Ordinary => None,
            Self::Apparmor => Some("mandatory::apparmor::"),
            Self::Selinux => Some("mandatory::selinux::"),
        }
    }
}

fn is_option(argument: &OsString) -> bool {
    starts(argument, "-")
}

fn starts(argument: &OsString, start: &str) -> bool {
    argument.as_encoded_bytes().starts_with(start.as_bytes())
}

/// Such as `mandatory::` or `mandatory::selinux`, and nothing shorter.
fn is_start_of(name: &OsString, module: &str) -> bool {
    let bytes = name.as_encoded_bytes();
    starts(name, MANDATORY) && module.as_bytes().starts_with(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(asked: &[&str]) -> [Option<Vec<OsString>>; 3] {
        let asked: Vec<_> = asked.iter().map(OsString::from).collect();
        Flavour::ALL.map(|flavour| flavour.arguments(&asked))
    }

    fn some(arguments: &[&str]) -> Option<Vec<OsString>> {
        Some(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn without_names_every_guest_runs_its_own_tests() {
        assert_eq!(
            arguments(&[]),
            [
                some(&["--skip", "mandatory::"]),
                some(&["mandatory::apparmor::"]),
                some(&["mandatory::selinux::"]),
            ]
        );
    }

    #[test]
    fn a_guest_none_of_whose_tests_is_named_is_not_booted() {
        assert_eq!(
            arguments(&["firewalls::", "--exact"]),
            [
                some(&["firewalls::", "--exact", "--skip", "mandatory::"]),
                None,
                None
            ]
        );
        assert_eq!(
            arguments(&["mandatory::selinux::a_test", "--exact"]),
            [None, None, some(&["mandatory::selinux::a_test", "--exact"])]
        );
        assert_eq!(arguments(&["mandatory::"])[0], None);
        assert_eq!(
            arguments(&["mandatory::selinux"]),
            [None, None, some(&["mandatory::selinux::"])]
        );
    }
}
