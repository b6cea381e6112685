//! The long explanations of the verdict codes, one page each.
//!
//! A page is Markdown: the code as its title, the code's meaning as the first paragraph, then
//! the sections of [`SECTIONS`].

use crate::terminal::{Terminal, Tone};
use crate::verdict::Code;

/// The sections of every page, in order.
pub const SECTIONS: [&str; 5] = [
    "What happened",
    "How we know",
    "What looks alike",
    "How to fix it",
    "How to verify the fix",
];

/// Pairs each code with its page, so that a code without a page does not compile.
macro_rules! pages {
    ($($code:ident => $file:literal,)*) => {
        /// The page about a code, as Markdown.
        pub const fn page(code: Code) -> &'static str {
            match code {
                $(Code::$code => include_str!(concat!("explain/", $file, ".md")),)*
            }
        }
    };
}

pages! {
    NoListener => "no-listener",
    WrongPort => "wrong-port",
    WrongAddress => "wrong-address",
    BoundNotListening => "bound-not-listening",
    ListenerExited => "listener-exited",
    ListenerKilled => "listener-killed",
    ListenerOomKilled => "listener-oom-killed",
    ListenerClosed => "listener-closed",
    OtherNetns => "other-netns",
    AcceptQueueFull => "accept-queue-full",
    SynQueueFull => "syn-queue-full",
    FirewallReject => "firewall-reject",
    FirewallDrop => "firewall-drop",
    PacketDropped => "packet-dropped",
    RouteRefused => "route-refused",
    NeighbourUnreachable => "neighbour-unreachable",
    IcmpUnreachable => "icmp-unreachable",
    RemoteRefused => "remote-refused",
    NoAnswer => "no-answer",
    SelfConnect => "self-connect",
    StaleDns => "stale-dns",
    PortsExhausted => "ports-exhausted",
    BindFailed => "bind-failed",
    FdLimit => "fd-limit",
    PolicyDenied => "policy-denied",
    UnixMissing => "unix-missing",
    UnixBadPath => "unix-bad-path",
    UnixPermission => "unix-permission",
    UnixNoListener => "unix-no-listener",
    UnixNotASocket => "unix-not-a-socket",
    UnixWrongType => "unix-wrong-type",
    UnixBacklogFull => "unix-backlog-full",
    ResetByBackend => "reset-by-backend",
    ClosedByBackend => "closed-by-backend",
    SocketAborted => "socket-aborted",
    KeepaliveRace => "keepalive-race",
    ResetUnaccepted => "reset-unaccepted",
    BackendSilent => "backend-silent",
    ProtocolMismatch => "protocol-mismatch",
    ResolverFailed => "resolver-failed",
    NoLiveUpstreams => "no-live-upstreams",
    NginxLimit => "nginx-limit",
    Undetermined => "undetermined",
}

/// What a code means, in one paragraph: the first of its page, on one line.
pub fn meaning(code: Code) -> String {
    page(code)
        .lines()
        .skip(1)
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The page about a code as it is shown: headings stand out, commands are indented.
pub fn shown(code: Code, terminal: &Terminal) -> String {
    let mut text = String::new();
    let mut in_commands = false;
    for line in page(code).lines() {
        if line.starts_with("```") {
            in_commands = !in_commands;
        } else if in_commands {
            push_line(&mut text, &format!("    {line}"));
        } else if let Some(heading) = line.strip_prefix("## ").or(line.strip_prefix("# ")) {
            push_line(&mut text, &terminal.paint(Tone::Strong, heading));
        } else {
            push_line(&mut text, line);
        }
    }
    text
}

/// Every code with its meaning.
pub fn list(terminal: &Terminal) -> String {
    let columns = Code::ALL
        .iter()
        .map(|code| code.as_str().len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for code in Code::ALL {
        let mut label = format!("{code:columns$}");
        for piece in terminal.wrapped(&meaning(code), columns + 2) {
            let line = format!("{}  {piece}", terminal.paint(Tone::Strong, &label));
            push_line(&mut text, &line);
            label = " ".repeat(columns);
        }
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
