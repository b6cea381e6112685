//! The fixture on a Unix socket. Like the one on TCP it says `ready` once it is, obeys lines on
//! its standard input, and ends with it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, listen, shutdown, socket,
};

/// What it binds, and what it does with it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A path, or with `@` before it an abstract name.
    path: OsString,
    /// `stream`, `datagram` or `seqpacket`.
    #[arg(long, default_value = "stream")]
    kind: String,
    #[arg(long, default_value_t = 128)]
    backlog: i32,
    /// Permission bits of the socket, in octal.
    #[arg(long, default_value = "666")]
    mode: String,
    /// Bind and do not listen.
    #[arg(long)]
    bind_only: bool,
    /// Listen and never accept.
    #[arg(long)]
    never_accept: bool,
}

/// Binds, serves, and obeys `exit N`, `close`, `shut`, `unlink` and `stop`.
///
/// # Errors
///
/// The path is taken, or an order is none.
pub fn serve(options: &Options) -> Result<()> {
    let mut listener = Some(open(options)?);
    say("ready")?;
    let accepting = !options.bind_only && !options.never_accept && options.kind == "stream";
    let mut orders = BufReader::new(std::io::stdin());
    loop {
        if wait(listener.as_ref().filter(|_| accepting))? {
            let mut line = String::new();
            if orders.read_line(&mut line)? == 0 {
                return Ok(());
            }
            obey(line.trim(), options, &mut listener)?;
        } else if let Some(listener) = &listener
            && let Ok((stream, _)) = listener.accept()
        {
            thread::spawn(move || answer(stream));
        }
    }
}

fn open(options: &Options) -> Result<UnixListener> {
    let kind = match options.kind.as_str() {
        "stream" => SockType::Stream,
        "datagram" => SockType::Datagram,
        "seqpacket" => SockType::SeqPacket,
        other => bail!("{other:?} is no kind of socket"),
    };
    let fd: OwnedFd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let path = options.path.as_os_str();
    let name = path.as_bytes().strip_prefix(b"@");
    let address = match name {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path)?,
    };
    bind(fd.as_raw_fd(), &address)
        .with_context(|| format!("cannot bind {}", path.to_string_lossy()))?;
    if name.is_none() {
        let mode = u32::from_str_radix(&options.mode, 8)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if !options.bind_only && kind != SockType::Datagram {
        listen(&fd, Backlog::new(options.backlog)?)?;
    }
    Ok(UnixListener::from(fd))
}

/// Whether there is an order; otherwise there is a connection.
fn wait(listener: Option<&UnixListener>) -> Result<bool> {
    let stdin = std::io::stdin();
    let mut polled = vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    polled.extend(listener.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
    poll(&mut polled, PollTimeout::NONE)?;
    Ok(polled[0].any().unwrap_or(false))
}

fn obey(order: &str, options: &Options, listener: &mut Option<UnixListener>) -> Result<()> {
    match order.split_once(' ').unwrap_or((order, "")) {
        ("exit", status) => std::process::exit(status.parse()?),
        ("close", "") => {
            *listener = None;
            say("done")
        }
        ("shut", "") => {
            let open = listener.as_ref().context("it is closed")?;
            shutdown(open.as_raw_fd(), Shutdown::Read)?;
            say("done")
        }
        ("unlink", "") => {
            fs::remove_file(&options.path)?;
            say("done")
        }
        ("stop", "") => {
            say("done")?;
            Ok(raise(Signal::SIGSTOP)?)
        }
        _ => bail!("{order:?} is no order"),
    }
}

fn answer(mut stream: UnixStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
