//! A small HTTP client inside a namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::patience::patiently;

/// How long a response may take: above every timeout that the tests give nginx.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// Sends `GET path` to `server` and reads the response to its end.
///
/// # Errors
///
/// Nobody listens there, or what comes back is no HTTP response.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> Result<Response> {
    let mut stream = send(namespace, server, path)?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("no response to GET {path}"))?;
    parse(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("no HTTP response to GET {path}"))
}

/// Sends `GET path` and leaves the response unread: drop the stream to leave as an impatient
/// client does.
///
/// # Errors
///
/// Nobody listens there.
pub fn send(namespace: &Namespace, server: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = namespace.inside(|| {
        TcpStream::connect_timeout(&server, patiently(PATIENCE))
            .with_context(|| format!("cannot connect to {server}"))
    })?;
    stream.set_read_timeout(Some(patiently(PATIENCE)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: lab.test\r\nConnection: close\r\n\r\n"
    )?;
    Ok(stream)
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response {
        status,
        body: body.to_owned(),
    })
}
