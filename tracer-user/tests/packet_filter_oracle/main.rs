//! The evaluator against the kernel: random rulesets of nft and iptables-nft, real packets on
//! loopback, and the kernel's trace of which rule ended each packet's way or translated it.
//!
//! `ORACLE_SEED` repeats a run, `ORACLE_RULESETS` sets its length.

#![allow(clippy::unwrap_used, reason = "nothing but a test")]

mod conditions;
mod iptables;
mod random;
mod rulesets;
mod tracing;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{SockaddrStorage, bind, connect};
use whyrefused::case::{Action, Hook};
use whyrefused::firewall::packet::{Conntrack, Kind, Owner, Side, State};
use whyrefused::firewall::ruleset::ChainKind;
use whyrefused::firewall::trial::End;
use whyrefused::firewall::{Packet, Ruleset, evaluate};
use whyrefused::host::netns::Namespace;
use whyrefused::host::packet_filter;

use random::Random;
use rulesets::{FRAME, MARKS, PORTS, USERS};
use tracing::{Step, Tcp, Trace};

const PACKETS: usize = 25;
const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;

/// The way of a packet on loopback.
const HOOKS: [Hook; 4] = [
    Hook::Output,
    Hook::Postrouting,
    Hook::Prerouting,
    Hook::Input,
];

#[test]
fn the_kernel_s_trace_agrees_with_the_evaluation() {
    if !nix::unistd::geteuid().is_root() || Command::new("nft").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: needs root and nft");
        return;
    }
    let seed = number("ORACLE_SEED").unwrap_or(20_240_229);
    let rulesets = number("ORACLE_RULESETS").unwrap_or(60) as usize;
    println!("ORACLE_SEED={seed}");
    // The namespace ends with its thread.
    let score = std::thread::spawn(move || run(seed, rulesets))
        .join()
        .unwrap();
    println!("{score:?}");
    assert!(score.cases >= rulesets * PACKETS, "too few: {score:?}");
    assert!(
        score.stopped * 10 > score.cases,
        "hardly any was stopped: {score:?}"
    );
    assert!(score.translated > 0, "none was translated: {score:?}");
    // Else the comparison would say little.
    assert!(
        score.undecided * 4 < score.cases,
        "too much was left open: {score:?}"
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[derive(Debug, Default)]
struct Score {
    /// Packets at a hook.
    cases: usize,
    stopped: usize,
    translated: usize,
    undecided: usize,
}

/// One packet's description.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    from: SocketAddr,
    to: SocketAddr,
    user: u32,
    mark: u32,
}

/// What the kernel told of a packet at a hook.
#[derive(Debug)]
struct Account {
    hook: Hook,
    mark: u32,
    tcp: Tcp,
    /// Where it was going when it left the hook.
    to: SocketAddr,
    /// The rule that translated it.
    translated: Option<Step>,
    /// The rule or policy that stopped it.
    stopped: Option<Step>,
}

fn run(seed: u64, rulesets: usize) -> Score {
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of its own");
    for arguments in [
        "link set lo up",
        "addr add fd00::2/128 dev lo",
        "addr add fd00::3/128 dev lo",
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.unwrap().success());
    }
    // SAFETY: gettid takes nothing and cannot fail.
    let tid = unsafe { libc::gettid() };
    let namespace = Namespace::at(format!("/proc/self/task/{tid}/ns/net")).unwrap();
    let mut trace = Trace::open();
    let mut random = Random::new(seed);
    let mut score = Score::default();
    let mut port = 20_000;
    for _ in 0..rulesets {
        let text = load(&mut random);
        let read = packet_filter::read(&namespace).unwrap();
        assert!(read.unread.is_empty(), "{:?}", read.unread);
        for _ in 0..PACKETS {
            port = if port >= 30_000 { 20_000 } else { port + 1 };
            let attempt = attempt(&mut random, port);
            judge(&read, &text, &mut trace, attempt, &mut score);
        }
    }
    score
}

/// Loads it by the program, without the rules that contradict themselves so plainly that the
/// program or the kernel refuses them; returns what is left.
fn install(program: &str, arguments: &[&str], mut text: String) -> String {
    for _ in 0..60 {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return text;
        }
        let told = String::from_utf8(output.stderr).unwrap();
        let refused: Vec<usize> = told.lines().filter_map(line_number).collect();
        assert!(!refused.is_empty(), "{told}\n{text}");
        let left = text.lines().enumerate();
        text = left
            .filter(|(number, _)| !refused.contains(&(number + 1)))
            .map(|(_, line)| format!("{line}\n"))
            .collect();
    }
    panic!("{program} takes nothing of it:\n{text}");
}

/// Of `/dev/stdin:24:33-43: Error`, `occurred at line: 19` and `line 12: RULE_APPEND failed`.
fn line_number(complaint: &str) -> Option<usize> {
    let number = match complaint.strip_prefix("/dev/stdin:") {
        Some(rest) => rest.split(':').next()?,
        None => complaint
            .split_once("line")?
            .1
            .trim_start_matches([':', ' ']),
    };
    let end = number.find(|character: char| !character.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().ok()
}

/// A random ruleset in the namespace, as text.
fn load(random: &mut Random) -> String {
    if random.percent(60) {
        return install("nft", &["-f", "-"], rulesets::ruleset(random));
    }
    let mut text = install("nft", &["-f", "-"], format!("flush ruleset\n{FRAME}"));
    for (program, v6) in [
        ("iptables-nft-restore", false),
        ("ip6tables-nft-restore", true),
    ] {
        text += &install(program, &[], iptables::ruleset(random, v6));
    }
    text
}

fn attempt(random: &mut Random, port: u16) -> Attempt {
    let addresses: &[&str] = if random.percent(50) {
        &["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.5"]
    } else {
        &["::1", "fd00::2", "fd00::3"]
    };
    let mut address = || -> IpAddr { random.one(addresses).parse().unwrap() };
    let (from, to) = (address(), address());
    Attempt {
        from: (from, port).into(),
        to: (to, random.one(&PORTS)).into(),
        user: random.one(&USERS),
        mark: random.one(&MARKS),
    }
}

/// Sends a SYN; the socket is closed before it is sent again.
fn send(attempt: Attempt) -> OwnedFd {
    let family = if attempt.to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: plain system calls; the descriptor belongs to nobody else.
    let socket = unsafe {
        libc::setfsuid(attempt.user);
        let fd = libc::socket(
            family,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            0,
        );
        libc::setfsuid(0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReuseAddr, &true).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &attempt.mark).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(attempt.from)).unwrap();
    // Whether it is refused, denied or under way is in the trace.
    let _ = connect(socket.as_raw_fd(), &SockaddrStorage::from(attempt.to));
    socket
}

fn judge(ruleset: &Ruleset, text: &str, trace: &mut Trace, attempt: Attempt, score: &mut Score) {
    let socket = send(attempt);
    let port = attempt.from.port();
    let is_syn = |tcp: &Tcp| tcp.from == port && tcp.flags & 0x3f == SYN;
    let mut accounts = Vec::new();
    let passed = follow(trace, is_syn, &mut accounts);
    for account in &accounts {
        compare(ruleset, text, attempt, account, false, score);
    }
    compare_translation(ruleset, text, attempt, &accounts[0]);
    let translated = accounts.iter().any(|account| account.to != attempt.to);
    if passed && !translated {
        let is_answer = |tcp: &Tcp| tcp.to.port() == port && tcp.flags == RST_ACK;
        let mut accounts = Vec::new();
        follow(trace, is_answer, &mut accounts);
        for account in &accounts {
            compare(ruleset, text, attempt, account, true, score);
        }
    }
    score.translated += usize::from(translated);
    drop(socket);
}

/// Which rule translated the SYN, and where to.
fn compare_translation(ruleset: &Ruleset, text: &str, attempt: Attempt, account: &Account) {
    if account.stopped.is_some() && account.translated.is_none() {
        return;
    }
    let packet = Packet {
        to: attempt.to,
        ..packet(attempt, account, false, text)
    };
    let trial = evaluate(ruleset, &packet, Hook::Output, &[ChainKind::Nat]);
    let certain = trial.ends.iter().find(|end| end.certain);
    let agrees = match (&account.translated, certain) {
        (None, certain) => certain.is_none() && trial.may_pass,
        (Some(step), None) => trial.ends.iter().any(|end| handle(end) == step.rule),
        (Some(step), Some(end)) => {
            let to = Some(account.to);
            handle(end) == step.rule && end.action == Action::Translate { to }
        }
    };
    assert!(
        agrees,
        "{text}\n{packet:#?}\nthe kernel: {account:#?}\nevaluated: {trial:#?}"
    );
}

fn handle(end: &End) -> Option<u64> {
    end.rule.and_then(|rule| rule.handle)
}

/// Whether the packet got through all hooks.
fn follow(trace: &mut Trace, wanted: impl Fn(&Tcp) -> bool, accounts: &mut Vec<Account>) -> bool {
    for hook in HOOKS {
        let Some(first) = trace.next(&wanted) else {
            panic!("nothing of {hook:?} after {accounts:?}");
        };
        assert_eq!(
            first.table, "begin",
            "{first:?} at {hook:?} after {accounts:?}"
        );
        let mut translated = None;
        let account = |last: Step, translated| Account {
            hook,
            mark: first.mark,
            tcp: first.tcp,
            to: last.tcp.to,
            translated,
            stopped: last.dropped.then_some(last),
        };
        loop {
            let Some(step) = trace.next(&wanted) else {
                panic!("no end of {hook:?} after {accounts:?}");
            };
            if step.dropped {
                accounts.push(account(step, translated));
                return false;
            }
            // The policy is the last word of a base chain.
            if step.table == "end" && step.policy {
                accounts.push(account(step, translated));
                break;
            }
            if step.table == "nat" && step.accepted {
                translated = Some(step);
            }
        }
    }
    true
}

fn compare(
    ruleset: &Ruleset,
    text: &str,
    attempt: Attempt,
    account: &Account,
    answer: bool,
    score: &mut Score,
) {
    let packet = packet(attempt, account, answer, text);
    let trial = evaluate(
        ruleset,
        &packet,
        account.hook,
        &[ChainKind::Filter, ChainKind::Route],
    );
    score.cases += 1;
    let found = trial.ends.iter().find(|end| {
        account.stopped.as_ref().is_some_and(|step| {
            let chain = if end.rule.is_none() {
                end.base_chain
            } else {
                end.chain
            };
            (&end.table.name, &chain.name) == (&step.table, &step.chain) && handle(end) == step.rule
        })
    });
    let only = trial.ends.iter().any(|end| end.certain);
    let agrees = match &account.stopped {
        Some(_) => found.is_some_and(|end| end.certain || !only),
        None => trial.may_pass && !only,
    };
    assert!(
        agrees,
        "{text}\n{packet:#?}\nthe kernel: {account:#?}\nevaluated: {:#?}\nmay pass: {}\n{:#?}",
        trial
            .ends
            .iter()
            .map(|end| (
                &end.table.name,
                &end.chain.name,
                end.rule,
                &end.action,
                end.certain
            ))
            .collect::<Vec<_>>(),
        trial.may_pass,
        trial.doubts,
    );
    score.stopped += usize::from(account.stopped.is_some());
    let decided = only || trial.ends.is_empty();
    score.undecided += usize::from(!decided);
}

fn packet(attempt: Attempt, account: &Account, answer: bool, text: &str) -> Packet {
    let lo = Side::Device {
        index: 1,
        name: "lo".to_owned(),
    };
    let sends = matches!(account.hook, Hook::Output | Hook::Postrouting);
    let (input, output) = if sends {
        (Side::Absent, lo)
    } else {
        (lo, Side::Absent)
    };
    let (from, to) = if answer {
        (attempt.to, attempt.from)
    } else {
        (attempt.from, account.to)
    };
    let owner = match (sends, answer) {
        (true, false) => Owner::User {
            uid: attempt.user,
            gid: Some(0),
        },
        _ => Owner::Absent,
    };
    // What an earlier hook did to the connection is not known here.
    let first = account.hook == Hook::Output && !answer;
    let tracked = first || !text.contains("notrack");
    let state = if answer {
        State::Established
    } else {
        State::New
    };
    Packet {
        kind: Kind::Segment,
        from,
        to,
        from_local: Some(true),
        to_local: Some(true),
        flags: account.tcp.flags,
        sequence: account.tcp.sequence,
        ttl: Some(64),
        mark: Some(account.mark),
        input,
        output,
        owner,
        conntrack: Conntrack {
            state: tracked.then_some(state),
            original: Some(!answer),
            mark: first.then_some(0),
            destination_translated: Some(!answer && account.to != attempt.to),
            dialled: Some(attempt.to),
        },
    }
}
