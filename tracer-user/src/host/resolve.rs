//! What a name means to a process: the sources that its C library asks (`getaddrinfo`), as its
//! own `/etc/nsswitch.conf`, `/etc/hosts` and `/etc/resolv.conf` have it.

mod dns;
mod message;
mod servers;
mod switch;

use std::io;

use crate::case::{NameSource, Resolution, Resolved};
use crate::clock;
use crate::nginx::config::hosts::Hosts;
use crate::nginx::config::source::Source;

pub use dns::{DnsQuestion, LONGEST};
use servers::Servers;
use switch::NameService;

/// A clock tick: the start of a process is known no better.
const TICK: i64 = 10_000_000;

/// How far a name can be resolved without asking anybody.
#[derive(Debug)]
pub enum Step {
    Settled(Resolution),
    /// The DNS servers are to be asked, from the network namespace of the process.
    Ask(DnsQuestion),
}

/// Resolves a name by files. `started` is when the process that uses the name began, in
/// nanoseconds of the calendar's clock; `v6` is the family that counts.
pub fn by_files(source: &dyn Source, host: &str, v6: bool, started: Option<i64>) -> Step {
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return unresolved("it is an address in a notation that only the C library reads");
    }
    let order = match text(source, b"/etc/nsswitch.conf") {
        Ok(text) => switch::sources_of_hosts(&text.unwrap_or_default()),
        Err(why) => return unresolved(&why),
    };
    let mut passed_over = Vec::new();
    for service in order {
        match service {
            NameService::Files => match text(source, b"/etc/hosts") {
                Ok(text) => {
                    let addresses = Hosts::parse(&text.unwrap_or_default()).addresses(host);
                    if !addresses.is_empty() {
                        return Step::Settled(Resolution::Resolved(Resolved {
                            addresses,
                            source: NameSource::Hosts {
                                changed: changed(source, started),
                            },
                            at: clock::monotonic(),
                            passed_over,
                        }));
                    }
                }
                Err(why) => return unresolved(&why),
            },
            NameService::Dns => {
                return match text(source, b"/etc/resolv.conf") {
                    Ok(text) => Step::Ask(DnsQuestion {
                        host: host.to_owned(),
                        v6,
                        servers: Servers::parse(&text.unwrap_or_default()),
                        passed_over,
                    }),
                    Err(why) => unresolved(&why),
                };
            }
            NameService::Other(name) => passed_over.push(name),
        }
    }
    unresolved("neither /etc/hosts has it nor does nsswitch.conf name DNS")
}

fn unresolved(why: &str) -> Step {
    Step::Settled(Resolution::Unresolved(why.to_owned()))
}

/// The text of a file; none where there is no such file, as the C library then has its defaults.
fn text(source: &dyn Source, path: &[u8]) -> Result<Option<String>, String> {
    match source.read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!(
            "{} could not be read: {error}",
            String::from_utf8_lossy(path)
        )),
    }
}

fn changed(source: &dyn Source, started: Option<i64>) -> Option<bool> {
    let changed = source.changed(b"/etc/hosts").ok()?;
    Some(is_later(changed, started?))
}

/// Whether what changed then changed after a process had started.
pub fn is_later(changed: i64, started: i64) -> bool {
    changed > started.saturating_add(TICK)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Files(HashMap<&'static [u8], Vec<u8>>);

    impl Source for Files {
        fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
            let found = self.0.get(path).cloned();
            found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }

        fn names(&self, _: &[u8]) -> io::Result<Vec<Vec<u8>>> {
            Ok(Vec::new())
        }

        fn changed(&self, _: &[u8]) -> io::Result<i64> {
            Ok(5_000_000_000)
        }
    }

    fn files(hosts: &[u8], switch: &[u8], resolv: &[u8]) -> Files {
        Files(HashMap::from([
            (&b"/etc/hosts"[..], hosts.to_vec()),
            (b"/etc/nsswitch.conf", switch.to_vec()),
            (b"/etc/resolv.conf", resolv.to_vec()),
        ]))
    }

    fn resolved(step: Step) -> Resolved {
        match step {
            Step::Settled(Resolution::Resolved(resolved)) => resolved,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_hosts_file_answers_without_dns_and_tells_whether_it_changed() {
        let source = files(b"10.0.0.6 app\n", b"hosts: files dns\n", b"");
        for (started, changed) in [
            (Some(1_000_000_000), Some(true)),
            (Some(4_995_000_000), Some(false)),
            (Some(9_000_000_000), Some(false)),
            (None, None),
        ] {
            let found = resolved(by_files(&source, "app", false, started));
            assert_eq!(found.source, NameSource::Hosts { changed });
            assert_eq!(
                found.addresses,
                ["10.0.0.6".parse::<std::net::IpAddr>().expect("ip")]
            );
        }
    }

    #[test]
    fn what_the_hosts_file_lacks_is_for_dns() {
        let source = files(b"10.0.0.6 app\n", b"", b"nameserver 10.0.0.53\n");
        match by_files(&source, "other", true, None) {
            Step::Ask(question) => {
                assert_eq!((question.host.as_str(), question.v6), ("other", true));
            }
            other => panic!("{other:?}"),
        }
        let without = Files(HashMap::new());
        assert!(matches!(
            by_files(&without, "app", false, None),
            Step::Ask(_)
        ));
    }

    #[test]
    fn sources_that_are_not_asked_are_named_and_their_absence_leaves_the_name_open() {
        let source = files(b"10.0.0.6 app\n", b"hosts: ldap files\n", b"");
        let found = resolved(by_files(&source, "app", false, None));
        assert_eq!(found.passed_over, ["ldap"]);
        for host in ["other", "127.1"] {
            let step = by_files(&source, host, false, None);
            assert!(
                matches!(step, Step::Settled(Resolution::Unresolved(_))),
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_files_are_survived(
            hosts in proptest::collection::vec(any::<u8>(), 0..60),
            switch in "(hosts: ?)?[a-z!=\\[\\] \n]{0,30}",
            resolv in "((nameserver|search|domain|options) [0-9a-z:.%]{0,12}\n){0,5}",
        ) {
            let source = files(&hosts, switch.as_bytes(), resolv.as_bytes());
            let _ = by_files(&source, "app", false, None);
        }
    }
}
