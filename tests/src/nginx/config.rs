//! The configuration of a laboratory nginx.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use anyhow::Result;

use crate::confinement::Confinement;
use crate::host;
use crate::name_service::NameService;

/// Where nginx takes requests in its namespace, unless told otherwise.
pub const DOOR: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

/// What nginx is told. Requests to `/NAME/...` go to the upstream block `NAME`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it takes requests.
    pub door: SocketAddr,
    pub workers: usize,
    /// Lowest level of the error log.
    pub level: &'static str,
    pub connect_timeout: &'static str,
    /// `worker_connections`.
    pub connections: u32,
    /// Lines of the main context.
    pub main: String,
    /// Lines of the http context.
    pub http: String,
    pub upstreams: Vec<Upstream>,
    /// What nginx is put under.
    pub confinement: Option<Confinement>,
    /// The files by which it resolves names, where they are its own.
    pub names: Option<NameService>,
}

/// One `upstream` block and the location that passes to it.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub name: String,
    pub servers: Vec<String>,
    /// Further lines of the block, such as `keepalive 4;`.
    pub lines: String,
    /// Further lines of the location, such as `proxy_bind 127.0.0.3;`.
    pub location: String,
    /// The directive that passes to it, up to its name: `proxy_pass http://`.
    pub pass: &'static str,
}

impl Upstream {
    pub fn new(name: &str, server: &str) -> Self {
        Self {
            name: name.to_owned(),
            servers: vec![server.to_owned()],
            lines: String::new(),
            location: String::new(),
            pass: "proxy_pass http://",
        }
    }

    /// Adds a server that is tried when those before it fail.
    #[must_use]
    pub fn or(mut self, server: &str) -> Self {
        self.servers.push(server.to_owned());
        self
    }

    /// Passes by another protocol, such as `fastcgi_pass `.
    #[must_use]
    pub fn by(mut self, pass: &'static str) -> Self {
        self.pass = pass;
        self
    }

    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.lines += lines;
        self
    }

    #[must_use]
    pub fn in_location(mut self, lines: &str) -> Self {
        self.location += lines;
        self
    }
}

impl Config {
    /// Passes to the given upstreams, each a name and an address.
    pub fn passing(upstreams: &[(&str, &str)]) -> Self {
        Self::of(
            upstreams
                .iter()
                .map(|(name, server)| Upstream::new(name, server))
                .collect(),
        )
    }

    pub fn of(upstreams: Vec<Upstream>) -> Self {
        Self {
            door: DOOR,
            workers: 1,
            level: "info",
            connect_timeout: "5s",
            connections: 4096,
            main: String::new(),
            http: String::new(),
            upstreams,
            confinement: None,
            names: None,
        }
    }

    #[must_use]
    pub fn connect_timeout(mut self, timeout: &'static str) -> Self {
        self.connect_timeout = timeout;
        self
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let text = self.text(&directory.to_string_lossy())?;
        Ok(fs::write(super::config_path(directory), bytes(&text))?)
    }

    fn text(&self, directory: &str) -> Result<String> {
        let Self {
            door,
            workers,
            level,
            connect_timeout,
            connections,
            main,
            http,
            ..
        } = self;
        let user = host::worker_user()?.name;
        let mut text = format!(
            "user {user};
worker_processes {workers};
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log {level};
{main}
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  proxy_connect_timeout {connect_timeout};
  {http}
"
        );
        for upstream in &self.upstreams {
            write_upstream(&mut text, upstream)?;
        }
        write!(
            text,
            "  server {{\n    listen {door};\n    server_name lab.test;\n    location = /ready {{ return 204; }}\n"
        )?;
        for Upstream {
            name,
            pass,
            location,
            ..
        } in &self.upstreams
        {
            writeln!(text, "    location /{name}/ {{ {pass}{name}; {location} }}")?;
        }
        text.push_str("  }\n}\n");
        Ok(text)
    }
}

/// The text with `\xff`, as events show it, as the byte that is no UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split("\\xff").enumerate() {
        if index > 0 {
            bytes.push(0xff);
        }
        bytes.extend(part.bytes());
    }
    bytes
}

fn write_upstream(text: &mut String, upstream: &Upstream) -> Result<()> {
    writeln!(text, "  upstream {} {{", upstream.name)?;
    for server in &upstream.servers {
        // Otherwise nginx leaves a server that failed alone for a while.
        writeln!(text, "    server {server} max_fails=0;")?;
    }
    writeln!(text, "    {}\n  }}", upstream.lines)?;
    Ok(())
}
