//! Words for the things that a case speaks of.

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::case::{Case, Hook, KernelTime, Listener, Netns, Process};
use crate::escape::text_of_bytes;

/// The symbolic name of an error number, such as `ECONNREFUSED`.
pub(super) fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("error {errno}"),
        known => format!("{known:?}"),
    }
}

/// The name of a signal, such as `SIGKILL`.
pub(super) fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |known| known.as_str().to_owned(),
    )
}

/// A span of time with the three digits that a reader needs.
pub(super) fn duration(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds as f64 / 1e6;
    match nanoseconds {
        0..10_000_000 => format!("{milliseconds:.3} ms"),
        10_000_000..1_000_000_000 => format!("{milliseconds:.1} ms"),
        1_000_000_000..120_000_000_000 => format!("{:.2} s", milliseconds / 1e3),
        120_000_000_000..7_200_000_000_000 => format!("{:.0} min", milliseconds / 60e3),
        _ => format!("{:.1} h", milliseconds / 3600e3),
    }
}

/// Where a moment lies relative to the call of `connect()`.
pub(super) fn relative(case: &Case, at: KernelTime) -> String {
    let started = case.attempt.started;
    if at >= started {
        format!("{} after connect()", duration(at - started))
    } else {
        format!("{} before connect()", duration(started - at))
    }
}

/// `comm[pid]`, as people write it.
pub(super) fn process(process: &Process) -> String {
    format!("{}[{}]", process.comm, process.pid)
}

/// Who holds a listener: the likeliest owner, or that nobody is known.
pub(super) fn owner(owners: &[Process]) -> String {
    owners
        .first()
        .map_or_else(|| "a process that is not known".to_owned(), process)
}

/// Who listens, where, and with what restriction.
pub(super) fn listener(listener: &Listener) -> String {
    let mut words = format!("{} on {}", owner(&listener.owners), listener.address);
    let wildcard = listener.address.is_ipv6() && listener.address.ip().is_unspecified();
    if listener.v6only && wildcard {
        words.push_str(" (IPv6 only)");
    }
    if let Some(device) = &listener.device {
        words.push_str(&format!(" (bound to device {device})"));
    }
    words
}

/// A network namespace from nginx's point of view.
pub(super) fn namespace(case: &Case, netns: Netns) -> String {
    if netns == case.worker.netns {
        return "nginx's network namespace".to_owned();
    }
    let container = case
        .host
        .listeners
        .iter()
        .filter(|listener| listener.netns == netns)
        .flat_map(|listener| &listener.owners)
        .find_map(|owner| owner.container.as_deref());
    match container {
        Some(container) => format!("network namespace {netns} (container {container})"),
        None => format!("network namespace {netns}"),
    }
}

/// The hook in the words of the packet filter's tools.
pub(super) fn hook(hook: Option<Hook>) -> &'static str {
    match hook {
        Some(Hook::Ingress) => "the ingress hook",
        Some(Hook::Prerouting) => "the prerouting hook",
        Some(Hook::Input) => "the input hook",
        Some(Hook::Forward) => "the forward hook",
        Some(Hook::Output) => "the output hook",
        Some(Hook::Postrouting) => "the postrouting hook",
        Some(Hook::Egress) => "the egress hook",
        None => "a hook that the trace does not name",
    }
}

/// The address that nginx dialled, for people.
pub(super) fn dialled(case: &Case) -> String {
    match &case.attempt.dialled {
        Some(crate::case::Endpoint::Inet(address)) => address.to_string(),
        Some(crate::case::Endpoint::Unix(path)) => unix_path(path),
        None => "its upstream".to_owned(),
    }
}

/// A path for people; abstract names get the `@` that `ss` shows.
pub(super) fn unix_path(path: &[u8]) -> String {
    match path.split_first() {
        Some((0, name)) => format!("unix:@{}", text_of_bytes(name)),
        _ => format!("unix:{}", text_of_bytes(path)),
    }
}

/// A word that a shell reads as this one word, whatever bytes it holds.
pub(super) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// One command that runs in a network namespace, where that is another than the reader's own.
pub(super) fn in_namespace(case: &Case, netns: Netns, command: &str) -> String {
    let own = case.host.tool_netns.map_or_else(
        || netns == case.worker.netns && case.worker.container.is_none(),
        |tool| tool == netns,
    );
    if own {
        return command.to_owned();
    }
    match inhabitant(case, netns) {
        Some(pid) => format!("nsenter --net=/proc/{pid}/ns/net {command}"),
        None => match entrance(case, netns) {
            Some(path) => format!("nsenter --net={} {command}", shell_word(path)),
            None => format!(
                "{command}  # in network namespace {netns}: `lsns -t net` names a process for `nsenter -t PID -n`"
            ),
        },
    }
}

/// A path that leads to the namespace, where one is known.
fn entrance(case: &Case, netns: Netns) -> Option<&str> {
    let mut entrances = case.host.entrances.iter();
    let (_, path) = entrances.find(|(inode, _)| *inode == netns)?;
    Some(path)
}

/// A process that runs in a network namespace: the worker in its own, elsewhere one that listens
/// or is bound there.
fn inhabitant(case: &Case, netns: Netns) -> Option<u32> {
    if netns == case.worker.netns {
        return Some(case.worker.pid);
    }
    let listening = case
        .host
        .listeners
        .iter()
        .filter(|listener| listener.netns == netns)
        .flat_map(|listener| &listener.owners);
    let bound = case
        .host
        .bound
        .iter()
        .filter(|bound| bound.netns == netns)
        .flat_map(|bound| &bound.owners);
    listening.chain(bound).map(|process| process.pid).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::example;

    #[test]
    fn durations_keep_three_telling_digits() {
        assert_eq!(duration(61_000), "0.061 ms");
        assert_eq!(duration(12_340_000), "12.3 ms");
        assert_eq!(duration(1_030_000_000), "1.03 s");
        assert_eq!(duration(180_000_000_000), "3 min");
        assert_eq!(duration(u64::MAX), "5124095.6 h");
    }

    #[test]
    fn error_numbers_and_signals_without_a_name_keep_their_number() {
        assert_eq!(errno_name(libc::ECONNREFUSED), "ECONNREFUSED");
        assert_eq!(errno_name(i32::MIN), "error -2147483648");
        assert_eq!(signal_name(libc::SIGKILL), "SIGKILL");
        assert_eq!(signal_name(40), "signal 40");
    }

    #[test]
    fn a_command_for_another_namespace_enters_it() {
        let (own, other) = (example::OWN, example::OTHER);
        let mut case = example::refused("10.99.1.2:80", other);
        assert_eq!(in_namespace(&case, own, "ip route"), "ip route");
        case.host.tool_netns = Some(own);
        assert_eq!(in_namespace(&case, own, "ip route"), "ip route");
        let words = in_namespace(&case, other, "ip route");
        assert!(words.contains("# in network namespace 200"), "{words}");
        case.host.listeners = vec![example::listener("10.99.1.2:81", other, "app")];
        assert_eq!(
            in_namespace(&case, other, "ip route"),
            "nsenter --net=/proc/977/ns/net ip route"
        );
        case.host.tool_netns = Some(other);
        assert_eq!(in_namespace(&case, other, "ip route"), "ip route");
        assert_eq!(
            in_namespace(&case, own, "ip route"),
            "nsenter --net=/proc/4242/ns/net ip route"
        );
    }

    #[test]
    fn a_container_is_entered_where_the_readers_namespace_is_not_known() {
        let mut case = example::refused("127.0.0.1:80", example::OWN);
        case.worker.container = Some("0123456789ab".to_owned());
        assert_eq!(
            in_namespace(&case, example::OWN, "ss"),
            "nsenter --net=/proc/4242/ns/net ss"
        );
    }

    #[test]
    fn only_a_wildcard_is_said_to_take_ipv6_only() {
        let mut socket = example::listener("[::]:80", example::OWN, "app");
        socket.v6only = true;
        assert!(listener(&socket).ends_with("[::]:80 (IPv6 only)"));
        socket.address = example::address("[::1]:80");
        assert!(listener(&socket).ends_with("[::1]:80"));
    }

    #[test]
    fn a_hostile_name_stays_one_word_of_the_shell() {
        assert_eq!(shell_word("app@1.service"), "app@1.service");
        assert_eq!(shell_word("a; reboot"), "'a; reboot'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn an_abstract_socket_is_shown_with_its_sign() {
        assert_eq!(unix_path(b"/run/app.sock"), "unix:/run/app.sock");
        assert_eq!(unix_path(b"\0app"), "unix:@app");
        assert_eq!(unix_path(b""), "unix:");
    }
}
