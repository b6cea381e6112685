//! The fields that the log handlers of http and stream add to a line.

use super::is_number;
use crate::case::LogLine;

/// What was said and done, and the fields behind it, from the client on. A message that quotes
/// what the backend sent may quote such fields, too: there the last ones are nginx's.
pub(super) fn split(text: &str) -> (&str, &str) {
    const QUOTED: &str = "\" while reading response header from upstream, client: ";
    let quoted = text.starts_with("upstream sent ");
    if let Some(at) = text.rfind(QUOTED).filter(|_| quoted) {
        return text.split_at(at + QUOTED.len() - ", client: ".len());
    }
    let at = [
        ", client: ",
        ", udp client: ",
        ", server: ",
        ", upstream: \"",
    ]
    .iter()
    .filter_map(|label| text.find(label))
    .min();
    text.split_at(at.unwrap_or(text.len()))
}

/// Reads those fields into the line, which says whether their end was cut off.
pub(super) fn read(text: &str, line: &mut LogLine) {
    const UPSTREAM: &str = ", upstream: \"";
    let (client, rest) = plain_field(text, &[", client: ", ", udp client: "]);
    line.client = client;
    let (server, rest) = plain_field(rest, &[", server: "]);
    line.server = server;
    let (request, rest) = match rest.strip_prefix(", request: \"") {
        Some(rest) => {
            let (request, rest) = rest.split_at(request_end(rest, line.cut));
            (
                Some(request.to_owned()),
                rest.strip_prefix('"').unwrap_or(rest),
            )
        }
        None => (None, rest),
    };
    line.request = request;
    let (_, rest) = quoted_field(rest, ", subrequest: \"");
    let left = rest.len();
    let (upstream, rest) = quoted_field(rest, UPSTREAM);
    line.upstream = upstream.filter(|upstream| {
        let ends = UPSTREAM.len() + upstream.len() < left;
        ends || !line.cut || names_all(upstream)
    });
    let (host, rest) = quoted_field(rest, ", host: \"");
    line.host = host;
    line.referrer = rest
        .strip_prefix(", referrer: \"")
        .map(|rest| rest.strip_suffix('"').unwrap_or(rest).to_owned());
}

/// A field without quotes ends where the next one begins.
fn plain_field<'a>(text: &'a str, labels: &[&str]) -> (Option<String>, &'a str) {
    let Some(rest) = labels.iter().find_map(|label| text.strip_prefix(label)) else {
        return (None, text);
    };
    let end = [
        ", server: ",
        ", request: \"",
        ", upstream: \"",
        ", host: \"",
    ]
    .iter()
    .chain([&", bytes from/to client:", &", login: \""])
    .filter_map(|label| rest.find(label))
    .min()
    .unwrap_or(rest.len());
    (Some(rest[..end].to_owned()), &rest[end..])
}

fn quoted_field<'a>(text: &'a str, label: &str) -> (Option<String>, &'a str) {
    let Some(rest) = text.strip_prefix(label) else {
        return (None, text);
    };
    let end = quote_ends(rest).next().unwrap_or(rest.len());
    let after = rest.get(end + 1..).unwrap_or_default();
    (Some(rest[..end].to_owned()), after)
}

/// The address in the beginning of an upstream is whole: more follows it.
fn names_all(upstream: &str) -> bool {
    let place = upstream
        .split_once("://")
        .map_or(upstream, |(_, place)| place);
    match place.strip_prefix("unix:") {
        Some(path) => path.contains(":/"),
        None => place.contains('/'),
    }
}

/// Where a request line ends: at the first quote behind a protocol, if there is one, as
/// `GET /", upstream: "http://1.2.3.4/ HTTP/1.0` was a request line before nginx 1.21.1. Where the
/// line was cut off, the protocol may have been, and another quote is no end.
fn request_end(text: &str, cut: bool) -> usize {
    quote_ends(text)
        .find(|end| ends_in_protocol(&text[..*end]))
        .or_else(|| quote_ends(text).next().filter(|_| !cut))
        .unwrap_or(text.len())
}

/// Every quote that another field follows, or the part of one that a cut line still has.
fn quote_ends(text: &str) -> impl Iterator<Item = usize> {
    const FOLLOWING: [&str; 5] = [
        ", subrequest: \"",
        ", upstream: \"",
        ", host: \"",
        ", referrer: \"",
        ", bytes from/to client:",
    ];
    text.match_indices('"').map(|(at, _)| at).filter(move |at| {
        let rest = &text[at + 1..];
        FOLLOWING
            .iter()
            .any(|label| rest.starts_with(label) || label.starts_with(rest))
    })
}

/// ` HTTP/1.1`, maybe with spaces behind it.
fn ends_in_protocol(text: &str) -> bool {
    let Some((_, version)) = text.trim_end_matches(' ').rsplit_once(" HTTP/") else {
        return false;
    };
    version
        .split_once('.')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}
