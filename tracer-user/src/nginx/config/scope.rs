//! Walking a configuration with what each block inherits: passes, upstream blocks and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::nginx::config::address;
use crate::nginx::config::tree::Directive;
use crate::nginx::config::upstreams::{Kind, LogLevel, Place};

/// `*_connect_timeout` where the configuration does not say: 60 seconds in every module.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;

/// The parts of nginx that have upstreams of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    Main,
    Http,
    Stream,
    Mail,
}

/// A directive that hands requests to an upstream, such as `proxy_pass`.
#[derive(Debug)]
pub struct Pass {
    pub context: Context,
    pub kind: Kind,
    /// The argument, variables included.
    pub to: Vec<u8>,
    pub place: Place,
    pub connect_timeout_ms: u64,
}

/// An `upstream` block.
#[derive(Debug)]
pub struct Block<'a> {
    pub context: Context,
    pub name: String,
    pub directives: &'a [Directive],
}

/// What a walk over the whole configuration finds.
#[derive(Debug, Default)]
pub struct Survey<'a> {
    pub passes: Vec<Pass>,
    pub blocks: Vec<Block<'a>>,
    pub listened: BTreeSet<u16>,
    /// What each variable may be, by name; None where only nginx at work can tell.
    pub variables: BTreeMap<Vec<u8>, Option<BTreeSet<Vec<u8>>>>,
    /// Scripts may dial what no directive names.
    pub scripted: bool,
    /// The most verbose level in effect where requests are passed on.
    pub passing_level: Option<LogLevel>,
    pub main_level: Option<LogLevel>,
}

/// What a block inherits from those around it.
#[derive(Debug, Clone)]
struct Scope {
    context: Context,
    /// By the directive's name in front of `_connect_timeout`.
    timeouts: BTreeMap<Vec<u8>, u64>,
    level: LogLevel,
}

impl<'a> Survey<'a> {
    pub fn of(directives: &'a [Directive]) -> Self {
        let mut survey = Self::default();
        let scope = Scope {
            context: Context::Main,
            timeouts: BTreeMap::new(),
            level: LogLevel::Error,
        };
        survey.walk(directives, scope);
        survey
    }

    fn walk(&mut self, directives: &'a [Directive], mut scope: Scope) {
        // The order inside of a block does not matter: nginx merges once it is read.
        scope.read_settings(directives);
        if scope.context == Context::Main {
            self.main_level = Some(scope.level);
        }
        for directive in directives {
            self.directive(directive, &scope);
        }
    }

    fn directive(&mut self, directive: &'a Directive, scope: &Scope) {
        let name = directive.name();
        self.scripted |= memchr::memmem::find(name, b"_by_lua").is_some()
            || name.starts_with(b"js_")
            || name.starts_with(b"perl");
        let Some(block) = &directive.block else {
            return self.simple(directive, scope);
        };
        let mut inner = scope.clone();
        match name {
            b"http" => inner.context = Context::Http,
            b"stream" => inner.context = Context::Stream,
            b"mail" => inner.context = Context::Mail,
            b"server" => self.implicit_listen(block, scope.context),
            b"location" | b"if" | b"limit_except" => {}
            b"upstream" => return self.upstream(directive, block, scope.context),
            b"map" | b"geo" | b"split_clients" => return self.mapped(directive, block),
            _ => return,
        }
        self.walk(block, inner);
    }

    fn simple(&mut self, directive: &Directive, scope: &Scope) {
        let name = directive.name();
        match (name, directive.arguments()) {
            (b"listen", [place, ..]) => {
                let default_port = (scope.context == Context::Http).then_some(80);
                if let Some((first, last)) = address::listen_ports(place, default_port) {
                    self.listened.extend(first..=last);
                }
            }
            (b"set", [variable, value]) => self.assign(variable, value),
            (b"auth_request_set", [variable, ..]) => {
                self.variables
                    .insert(without_dollar(variable).to_vec(), None);
            }
            (_, [to]) if name.ends_with(b"_pass") && scope.context != Context::Mail => {
                self.passing_level = self.passing_level.max(Some(scope.level));
                self.passes.push(scope.pass(directive, to));
            }
            _ => {}
        }
    }

    fn upstream(&mut self, directive: &Directive, block: &'a [Directive], context: Context) {
        self.scripted |= block
            .iter()
            .any(|inner| inner.name().starts_with(b"balancer_by_lua"));
        if let [name] = directive.arguments() {
            self.blocks.push(Block {
                context,
                name: String::from_utf8_lossy(name).into_owned(),
                directives: block,
            });
        }
    }

    /// A server of http without `listen` has port 80 (`ngx_http_core_server`).
    fn implicit_listen(&mut self, block: &[Directive], context: Context) {
        if context == Context::Http && !block.iter().any(|inner| inner.name() == b"listen") {
            self.listened.insert(80);
        }
    }

    /// `map` and its like: every line's last word is a value of the variable in last place.
    fn mapped(&mut self, directive: &Directive, block: &[Directive]) {
        let Some(variable) = directive.arguments().last() else {
            return;
        };
        for line in block {
            if let [value] = line.arguments() {
                self.assign(variable, value);
            }
        }
    }

    fn assign(&mut self, variable: &[u8], value: &[u8]) {
        let values = self
            .variables
            .entry(without_dollar(variable).to_vec())
            .or_insert_with(|| Some(BTreeSet::new()));
        if value.contains(&b'$') {
            *values = None;
        } else if let Some(values) = values {
            values.insert(value.to_vec());
        }
    }
}

impl Scope {
    fn read_settings(&mut self, directives: &[Directive]) {
        let mut level = None;
        for directive in directives {
            let arguments = directive.arguments();
            if let Some(module) = directive.name().strip_suffix(b"_connect_timeout") {
                if let Some(timeout) = arguments.first().and_then(|text| milliseconds(text)) {
                    self.timeouts.insert(module.to_vec(), timeout);
                }
            } else if directive.name() == b"error_log" {
                level = level.max(Some(LogLevel::of_error_log(arguments)));
            }
        }
        // A block with destinations of its own does not write to those around it.
        self.level = level.unwrap_or(self.level);
    }

    fn pass(&self, directive: &Directive, to: &[u8]) -> Pass {
        let module = directive.name().strip_suffix(b"_pass").unwrap_or_default();
        Pass {
            context: self.context,
            kind: Kind::of(module, self.context == Context::Stream),
            to: to.to_vec(),
            place: Place {
                file: Arc::clone(&directive.file),
                line: directive.line,
            },
            connect_timeout_ms: *self.timeouts.get(module).unwrap_or(&DEFAULT_TIMEOUT_MS),
        }
    }
}

fn without_dollar(variable: &[u8]) -> &[u8] {
    variable.strip_prefix(b"$").unwrap_or(variable)
}

/// `ngx_parse_time` with milliseconds: `90`, `90s`, `1m30s`, `500ms`, `1m 30`.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().ok()?;
        let (unit, length) = unit(&rest[end..])?;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest[end + length..].trim_start_matches(' ');
    }
    (!text.is_empty()).then_some(total)
}

/// How many milliseconds a unit has, and how many bytes it takes.
fn unit(text: &str) -> Option<(u64, usize)> {
    if text.starts_with("ms") {
        return Some((1, 2));
    }
    const MINUTE: u64 = 60_000;
    let unit = match text.bytes().next() {
        None => return Some((1000, 0)),
        Some(b's') => 1000,
        Some(b'm') => MINUTE,
        Some(b'h') => 60 * MINUTE,
        Some(b'd') => 24 * 60 * MINUTE,
        Some(b'w') => 7 * 24 * 60 * MINUTE,
        Some(b'M') => 30 * 24 * 60 * MINUTE,
        Some(_) => return None,
    };
    Some((unit, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nginx_does() {
        for (text, expected) in [
            ("60", Some(60_000)),
            ("5s", Some(5_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1m 30", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("9999999999999999M", None),
        ] {
            assert_eq!(milliseconds(text.as_bytes()), expected, "{text}");
        }
    }
}
