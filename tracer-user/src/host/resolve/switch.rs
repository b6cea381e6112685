//! The order in which the C library asks its sources (`nsswitch.conf`).

/// More sources than this are not asked by anybody.
const MOST: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameService {
    /// `/etc/hosts`.
    Files,
    /// The servers of `/etc/resolv.conf`.
    Dns,
    Other(String),
}

/// The sources of the line `hosts:`; files and then DNS where there is none.
///
/// What stands in brackets says after which answers the C library stops. It stops at an address
/// in any case, and without one the name stays unresolved here as soon as DNS has none either.
pub fn sources_of_hosts(text: &str) -> Vec<NameService> {
    let line = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .find_map(|line| line.trim_start().strip_prefix("hosts:"));
    let Some(line) = line else {
        return vec![NameService::Files, NameService::Dns];
    };
    let mut in_brackets = false;
    let mut sources = Vec::new();
    for word in line.split_whitespace() {
        in_brackets |= word.starts_with('[');
        if !in_brackets && sources.len() < MOST {
            sources.push(match word {
                "files" => NameService::Files,
                "dns" => NameService::Dns,
                other => NameService::Other(other.to_owned()),
            });
        }
        in_brackets &= !word.ends_with(']');
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::NameService::{Dns, Files};
    use super::*;

    #[test]
    fn sources_are_read_in_their_order_without_what_is_in_brackets() {
        let other = |name: &str| NameService::Other(name.to_owned());
        for (text, expected) in [
            ("", vec![Files, Dns]),
            ("passwd: files\n", vec![Files, Dns]),
            ("# x\nhosts: files dns # y\n", vec![Files, Dns]),
            (" hosts:dns files", vec![Dns, Files]),
            (
                "hosts: files mdns4_minimal [NOTFOUND=return] dns",
                vec![Files, other("mdns4_minimal"), Dns],
            ),
            (
                "hosts: resolve [ !UNAVAIL=return ] files",
                vec![other("resolve"), Files],
            ),
            ("hosts:", vec![]),
        ] {
            assert_eq!(sources_of_hosts(text), expected, "{text}");
        }
    }
}
