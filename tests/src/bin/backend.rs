//! A backend that breaks on demand: the fixture of the live tests.
//!
//! It says `ready` once it is, obeys lines on its standard input, and ends with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use whyrefused_tests::wire::{Answer, FarEnd};
use whyrefused_tests::{name_service, unix_backend};

#[derive(Parser)]
#[command(about = "A backend that breaks on demand")]
struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Listen and answer HTTP. Orders: exit N, segv, abort, eat, close, stop.
    Tcp(Tcp),
    /// Bind a Unix socket. Orders: exit N, close, shut, unlink, stop.
    Unix(unix_backend::Options),
    /// Bind a UDP socket.
    Udp { address: SocketAddr },
    /// Answer questions of DNS by the lines of a file, which is read anew for each.
    Dns { address: SocketAddr, zone: PathBuf },
    /// Play the machines at the far end of a tap device.
    Wire(Wire),
}

#[derive(Args)]
struct Tcp {
    addresses: Vec<SocketAddr>,
    #[arg(long)]
    v6only: bool,
    /// Tie the sockets to this network device.
    #[arg(long)]
    device: Option<String>,
    #[arg(long)]
    reuseport: bool,
    #[arg(long, default_value_t = 128)]
    backlog: i32,
    /// Bind and do not listen.
    #[arg(long)]
    bind_only: bool,
    /// Listen and never accept.
    #[arg(long)]
    never_accept: bool,
    /// What becomes of a connection instead of answers.
    #[arg(long)]
    ending: Option<Misdeed>,
}

/// What a backend does to a connection once a request has come, unless it says otherwise.
#[derive(Clone, Copy, ValueEnum)]
enum Misdeed {
    /// Reads it and closes with SO_LINGER set to zero.
    Reset,
    /// The same, in the middle of an answer.
    ResetMidway,
    /// Closes without reading it.
    Unread,
    /// Reads it and closes.
    Close,
    /// The same, in the middle of an answer.
    CloseMidway,
    /// Reads it and sends a part of an answer, with the end of the connection in one segment.
    CloseShort,
    /// The same with a reset behind it.
    ResetShort,
    /// Reads it and ends it in FastCGI, without a response.
    FastcgiEnd,
    /// Reads it and refuses it in HTTP/2.
    Http2Refusal,
    /// Reads it and says nothing.
    Hold,
    /// Does not even read it.
    Ignore,
    /// Answers in no protocol that nginx knows.
    Garbage,
    /// Answers it, and closes when the next one comes, without reading that.
    UnreadSecond,
    /// Answers with a length that is the end of the connection.
    CloseDelimited,
    /// Reads it and dies of SIGKILL.
    Die,
}

#[derive(Args)]
struct Wire {
    #[arg(long)]
    device: String,
    /// PORT=ANSWER: what a SYN to a port gets (`reset`, `3/13`, `1/1@fd77::fe`).
    #[arg(long = "port", value_parser = port_and_answer)]
    ports: Vec<(u16, Answer)>,
}

fn main() -> Result<()> {
    match Arguments::parse().kind {
        Kind::Tcp(options) => serve(&options),
        Kind::Unix(options) => unix_backend::serve(&options),
        Kind::Udp { address } => {
            let socket = UdpSocket::bind(address)?;
            say("ready")?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
            drop(socket);
            Ok(())
        }
        Kind::Dns { address, zone } => {
            let socket = UdpSocket::bind(address)?;
            say("ready")?;
            thread::spawn(move || name_service::answer(&socket, &zone));
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Ok(())
        }
        Kind::Wire(options) => play(options),
    }
}

fn serve(options: &Tcp) -> Result<()> {
    let mut sockets = Vec::new();
    for address in &options.addresses {
        sockets.push(open(*address, options)?);
    }
    say("ready")?;
    let accepting = !options.bind_only && !options.never_accept;
    let mut orders = BufReader::new(std::io::stdin());
    loop {
        let (ordered, waiting) = wait(&sockets, accepting)?;
        for index in waiting {
            accept(&sockets[index], options.ending);
        }
        if ordered {
            let mut line = String::new();
            if orders.read_line(&mut line)? == 0 {
                return Ok(());
            }
            obey(line.trim(), &mut sockets)?;
        }
    }
}

fn open(address: SocketAddr, options: &Tcp) -> Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if options.reuseport {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &options.v6only)?;
    }
    if let Some(device) = &options.device {
        setsockopt(&fd, sockopt::BindToDevice, &device.into())?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("cannot bind {address}"))?;
    if !options.bind_only {
        listen(&fd, Backlog::new(options.backlog)?)?;
    }
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Waits for an order or a connection: whether there is an order, and which sockets have one.
///
/// All of it happens on one thread, for a socket that is closed while another thread sleeps in
/// accept() would go on listening.
fn wait(sockets: &[TcpListener], accepting: bool) -> Result<(bool, Vec<usize>)> {
    let stdin = std::io::stdin();
    let mut polled = vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    if accepting {
        polled.extend(
            sockets
                .iter()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
        );
    }
    poll(&mut polled, PollTimeout::NONE)?;
    let mut ready = polled.iter().map(|entry| entry.any().unwrap_or(false));
    let ordered = ready.next().unwrap_or(false);
    Ok((
        ordered,
        ready
            .enumerate()
            .filter(|(_, ready)| *ready)
            .map(|(index, _)| index)
            .collect(),
    ))
}

fn accept(listener: &TcpListener, ending: Option<Misdeed>) {
    if let Ok((stream, _)) = listener.accept() {
        thread::spawn(move || match ending {
            Some(misdeed) => misbehave(stream, misdeed),
            None => answer(stream),
        });
    }
}

/// The beginning of an answer.
const PART: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart of it";

fn misbehave(mut stream: TcpStream, misdeed: Misdeed) -> Result<()> {
    stream.set_nonblocking(false)?;
    // Returns once there is something, and leaves it there.
    stream.peek(&mut [0])?;
    match misdeed {
        Misdeed::Unread => return Ok(()),
        Misdeed::Ignore => hold(),
        _ => {}
    }
    let _ = stream.read(&mut [0; 65_536])?;
    match misdeed {
        Misdeed::Reset => return discard(&stream),
        Misdeed::Hold => hold(),
        Misdeed::Die => return Ok(raise(Signal::SIGKILL)?),
        Misdeed::Garbage => stream.write_all(b"\x15\x03\x01\x00\x02\x02\x28")?,
        Misdeed::CloseDelimited => stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it")?,
        Misdeed::CloseShort | Misdeed::ResetShort => send_with_more(&stream, PART)?,
        Misdeed::FastcgiEnd => {
            // An empty STDOUT record, which is its end, and END_REQUEST.
            stream.write_all(b"\x01\x06\x00\x01\x00\x00\x00\x00")?;
            stream.write_all(b"\x01\x03\x00\x01\x00\x08\x00\x00\0\0\0\0\0\0\0\0")?;
            hold();
        }
        Misdeed::Http2Refusal => {
            // SETTINGS, and RST_STREAM of the first stream with REFUSED_STREAM.
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0")?;
            stream.write_all(b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07")?;
            hold();
        }
        Misdeed::ResetMidway | Misdeed::CloseMidway => {
            stream.write_all(PART)?;
            // nginx is to read the header before it meets the end.
            thread::sleep(Duration::from_millis(100));
        }
        Misdeed::UnreadSecond => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
            stream.peek(&mut [0])?;
        }
        Misdeed::Unread | Misdeed::Ignore | Misdeed::Close => {}
    }
    match misdeed {
        Misdeed::ResetMidway => discard(&stream),
        Misdeed::ResetShort => {
            // What waits for more would be discarded with the connection.
            stream.set_nodelay(true)?;
            discard(&stream)
        }
        _ => Ok(()),
    }
}

fn hold() -> ! {
    loop {
        thread::park();
    }
}

/// Sends bytes that wait for what comes next, be it the end.
fn send_with_more(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    // SAFETY: the buffer is valid for its length, and the descriptor is open.
    let sent = unsafe {
        libc::send(
            stream.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_MORE,
        )
    };
    nix::errno::Errno::result(sent)?;
    Ok(())
}

/// The close that follows is a reset.
fn discard(stream: &TcpStream) -> Result<()> {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}

/// Answers requests until the other side has had enough.
fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    let mut requests = BufReader::new(stream.try_clone()?);
    loop {
        let mut keep = true;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            keep &= !line.eq_ignore_ascii_case("connection: close\r\n");
            if line == "\r\n" {
                break;
            }
        }
        let connection = if keep { "keep-alive" } else { "close" };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: {connection}\r\n\r\nok\n"
        )?;
        if !keep {
            return Ok(());
        }
    }
}

fn obey(order: &str, sockets: &mut Vec<TcpListener>) -> Result<()> {
    match order.split_once(' ').unwrap_or((order, "")) {
        ("exit", status) => std::process::exit(status.parse()?),
        ("segv", "") => die_of(Signal::SIGSEGV),
        ("abort", "") => die_of(Signal::SIGABRT),
        ("eat", "") => eat(),
        ("close", "") => {
            sockets.clear();
            say("done")
        }
        ("stop", "") => {
            say("done")?;
            Ok(raise(Signal::SIGSTOP)?)
        }
        _ => bail!("{order:?} is no order"),
    }
}

fn die_of(deadly: Signal) -> Result<()> {
    // Rust's runtime catches SIGSEGV to recognise stack overflows, and returns.
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(deadly, SigHandler::SigDfl) }?;
    Ok(raise(deadly)?)
}

/// Touches memory until somebody puts an end to it.
fn eat() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
    }
}

fn play(options: Wire) -> Result<()> {
    let mut tap = open_tap(&options.device)?;
    let far_end = FarEnd {
        ports: options.ports.into_iter().collect::<HashMap<_, _>>(),
    };
    say("ready")?;
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut frame = [0; 65_536];
    loop {
        let length = tap.read(&mut frame)?;
        if let Some(answer) = far_end.answer(&frame[..length])? {
            tap.write_all(&answer)?;
        }
    }
}

nix::ioctl_write_int!(set_tun_device, b'T', 202);

fn open_tap(device: &str) -> Result<File> {
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    // SAFETY: an ifreq of zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        bail!("{device} is too long for a device name");
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    unsafe {
        set_tun_device(
            tap.as_raw_fd(),
            std::ptr::from_mut(&mut request) as libc::c_ulong,
        )
    }
    .with_context(|| format!("cannot make the tap device {device}"))?;
    Ok(tap)
}

fn port_and_answer(text: &str) -> Result<(u16, Answer)> {
    let (port, answer) = text.split_once('=').context("expected PORT=ANSWER")?;
    Ok((port.parse()?, answer.parse()?))
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
