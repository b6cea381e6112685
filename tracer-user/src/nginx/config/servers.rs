//! From passes and upstream blocks to the servers that are dialled.

use std::collections::BTreeSet;

use crate::nginx::config::address::{Host, Target};
use crate::nginx::config::scope::{Context, Pass, Survey};
use crate::nginx::config::tree::Directive;
use crate::nginx::config::upstreams::{Kind, Place, Server, Use};

/// Of the values that one pass may have by its variables, no more are followed.
const MOST_VALUES: usize = 1024;

/// The result of [`collect`].
#[derive(Debug, Default)]
pub struct Collected {
    pub servers: Vec<Server>,
    /// The timeouts of passes that may lead anywhere; empty where all addresses are known.
    pub open_ended_timeouts: BTreeSet<u64>,
}

/// The servers of every upstream block, and the addresses that passes name themselves.
pub fn collect(survey: &Survey) -> Collected {
    let mut collected = Collected::default();
    let blocks: Vec<BlockServers> =
        survey
            .blocks
            .iter()
            .map(|block| {
                let first = collected.servers.len();
                let servers = block.directives.iter();
                collected.servers.extend(servers.filter_map(|directive| {
                    upstream_server(directive, &block.name, block.context)
                }));
                BlockServers {
                    context: block.context,
                    name: block.name.to_ascii_lowercase(),
                    servers: first..collected.servers.len(),
                }
            })
            .collect();
    for pass in &survey.passes {
        let destinations = destinations(pass, survey);
        for destination in &destinations.known {
            collected.pass(pass, destination, &blocks);
        }
        if destinations.open_ended {
            collected
                .open_ended_timeouts
                .insert(pass.connect_timeout_ms);
        }
    }
    collected
}

struct BlockServers {
    context: Context,
    name: String,
    /// Places in the list of servers.
    servers: std::ops::Range<usize>,
}

impl Collected {
    fn pass(&mut self, pass: &Pass, destination: &Destination, blocks: &[BlockServers]) {
        let dialled = Use {
            kind: pass.kind.clone(),
            connect_timeout_ms: pass.connect_timeout_ms,
        };
        // An upstream block is meant by its name alone (`ngx_http_upstream_add`).
        let block = blocks.iter().find(|block| {
            block.context == pass.context
                && destination.target.port.is_none()
                && matches!(&destination.target.host, Host::Name(name) if *name == block.name)
        });
        if let Some(block) = block {
            for server in &mut self.servers[block.servers.clone()] {
                server.uses.insert(dialled.clone());
            }
        } else if let Some(address) = destination.target.address(destination.default_port) {
            self.servers.push(Server {
                // With a variable anywhere in it, all of it is evaluated for each request, and a
                // name resolved then (`ngx_http_proxy_eval`).
                resolve: memchr::memchr(b'$', &pass.to).is_some(),
                address,
                upstream: None,
                place: pass.place.clone(),
                uses: BTreeSet::from([dialled]),
                down: false,
                backup: false,
            });
        } else {
            self.open_ended_timeouts.insert(pass.connect_timeout_ms);
        }
    }
}

/// A `server` line; http has port 80 for a default (`ngx_http_upstream_server`), stream none.
fn upstream_server(directive: &Directive, upstream: &str, context: Context) -> Option<Server> {
    let (b"server", [address, parameters @ ..]) = (directive.name(), directive.arguments()) else {
        return None;
    };
    let default_port = (context == Context::Http).then_some(80);
    let has = |name: &[u8]| parameters.iter().any(|parameter| parameter == name);
    Some(Server {
        address: Target::parse(address, false)?.address(default_port)?,
        upstream: Some(upstream.to_owned()),
        place: Place {
            file: directive.file.clone(),
            line: directive.line,
        },
        uses: BTreeSet::new(),
        down: has(b"down"),
        backup: has(b"backup"),
        resolve: has(b"resolve"),
    })
}

struct Destination {
    target: Target,
    default_port: Option<u16>,
}

#[derive(Default)]
struct Destinations {
    known: Vec<Destination>,
    /// A variable whose values are not all in the configuration decides.
    open_ended: bool,
}

/// Where a pass leads, by every value that its variables may have.
fn destinations(pass: &Pass, survey: &Survey) -> Destinations {
    let mut found = Destinations::default();
    let mut open: Vec<(Vec<u8>, usize)> = vec![(pass.to.clone(), 0)];
    while let Some((text, replaced)) = open.pop() {
        if let Some(destination) = destination(&text, &pass.kind) {
            found.known.push(destination);
            continue;
        }
        let Some(variable) = Variable::first_in(&text) else {
            continue;
        };
        let values = survey.variables.get(variable.name).and_then(Option::as_ref);
        let fits = replaced < 2 && found.known.len() + open.len() < MOST_VALUES;
        match values.filter(|values| fits && values.len() < MOST_VALUES) {
            Some(values) => {
                let replaced = |value: &Vec<u8>| (variable.replaced(&text, value), replaced + 1);
                open.extend(values.iter().map(replaced));
            }
            None => found.open_ended = true,
        }
    }
    found
}

/// Where a pass leads if its host and port hold no variable.
fn destination(text: &[u8], kind: &Kind) -> Option<Destination> {
    let (scheme, rest) = match memchr::memmem::find(text, b"://") {
        Some(end) => (Some(&text[..end]), &text[end + 3..]),
        None => (None, text),
    };
    let default_port = match (kind, scheme.map(<[u8]>::to_ascii_lowercase).as_deref()) {
        (Kind::Proxy, Some(b"http")) => Some(80),
        (Kind::Proxy, Some(b"https")) => Some(443),
        // The scheme is decided at work: with a port written, it makes no difference.
        (Kind::Proxy, Some(b"$scheme")) => None,
        (Kind::Proxy, _) => return None,
        _ => None,
    };
    // Only the http proxy has a URI behind the address.
    let uri = *kind == Kind::Proxy;
    let target = Target::parse(static_part(rest, uri)?, uri)?;
    Some(Destination {
        target,
        default_port,
    })
}

/// The text up to the first variable, where host and port are complete before that.
fn static_part(text: &[u8], uri: bool) -> Option<&[u8]> {
    let Some(variable) = Variable::first_in(text) else {
        return Some(text);
    };
    let before = &text[..variable.start];
    let separator = |byte: &u8| matches!(byte, b'/' | b'?');
    let complete = if before.starts_with(b"unix:") {
        before[5..].contains(&b':')
    } else {
        before.iter().any(separator)
            // These begin with a slash themselves, or with a question mark.
            || matches!(variable.name, b"request_uri" | b"uri" | b"document_uri")
    };
    (uri && complete && !before.is_empty()).then_some(before)
}

/// `$name` or `${name}` in a text.
struct Variable<'a> {
    start: usize,
    end: usize,
    name: &'a [u8],
}

impl<'a> Variable<'a> {
    fn first_in(text: &'a [u8]) -> Option<Self> {
        let start = memchr::memchr(b'$', text)?;
        let braced = text.get(start + 1) == Some(&b'{');
        let begin = start + 1 + usize::from(braced);
        let length = text[begin..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count();
        let end = begin + length;
        Some(Self {
            start,
            end: (end + usize::from(braced)).min(text.len()),
            name: &text[begin..end],
        })
    }

    fn replaced(&self, text: &[u8], value: &[u8]) -> Vec<u8> {
        [&text[..self.start], value, &text[self.end..]].concat()
    }
}
