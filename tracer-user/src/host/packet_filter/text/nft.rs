//! What `nft --handle list chain` prints.

use crate::case::FilterFamily as Family;
use crate::firewall::ruleset::{Chain, Table};
use crate::host::netns::Namespace;
use crate::host::packet_filter::text::tool::{self, ToolError};

/// The texts of the rules of `chain`, in order, without handles.
///
/// Errors where nft is absent or fails, and where it lists other rules than `chain` has.
pub fn nft_texts(
    namespace: &Namespace,
    table: &Table,
    chain: &Chain,
) -> Result<Vec<String>, ToolError> {
    // nft joins its arguments and reads them as its language: a name that is no identifier could
    // hold a command.
    if !is_identifier(&table.name) || !is_identifier(&chain.name) {
        return Err(ToolError::NoTool(
            "a chain with a name that nft cannot read",
        ));
    }
    // Handles, and no state: packets counted so far are no part of a rule.
    let family = keyword(table.family);
    let arguments = ["-as", "list", "chain", family, &table.name, &chain.name];
    let listing = tool::run(namespace, "nft", &arguments)?;
    let rules = parse(&listing, &chain.name);
    let handles = rules.iter().map(|(handle, _)| Some(*handle));
    if !handles.eq(chain.rules.iter().map(|rule| rule.handle)) {
        return Err(ToolError::Mismatch { program: "nft" });
    }
    Ok(rules.into_iter().map(|(_, text)| text).collect())
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Inet => "inet",
        Family::Arp => "arp",
        Family::Bridge => "bridge",
        Family::Netdev => "netdev",
    }
}

/// `{string}` of nft's scanner.l.
fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || b"_.".contains(&byte))
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
}

/// Handle and text of each rule of the chain. A rule may go on in the next line: after a line
/// break in its comment, or with the rules of a chain without a name (`jump { ... }`).
fn parse(listing: &str, chain: &str) -> Vec<(u64, String)> {
    let mut rules = Vec::new();
    let mut unfinished = String::new();
    let body = listing
        .lines()
        .skip_while(|line| !opens(line, chain))
        .skip(1)
        .take_while(|line| *line != "\t}");
    for line in body {
        if unfinished.is_empty() && rules.is_empty() && is_head(line) {
            continue;
        }
        unfinished.push_str(line.trim_start());
        match unfinished.rsplit_once(" # handle ") {
            Some((text, handle)) if !handle.is_empty() && all_digits(handle) => {
                if let Ok(handle) = handle.parse() {
                    rules.push((handle, text.trim().to_owned()));
                }
                unfinished.clear();
            }
            _ => unfinished.push(' '),
        }
    }
    rules
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn opens(line: &str, chain: &str) -> bool {
    line.strip_prefix("\tchain ")
        .and_then(|rest| rest.strip_prefix(chain))
        .is_some_and(|rest| rest.starts_with(" {"))
}

/// What nft prints of the chain itself in front of its rules.
fn is_head(line: &str) -> bool {
    let line = line.trim_start();
    ["type ", "comment ", "flags ", "policy "]
        .iter()
        .any(|head| line.starts_with(head))
        && !line.contains(" # handle ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LISTING: &str = "table inet lab { # handle 1\n\tchain in { # handle 7\n\
        \t\tcomment \"mine\"\n\
        \t\ttype filter hook input priority filter; policy accept;\n\
        \t\ttcp dport 22 accept comment \"no # handle 5\" # handle 8\n\
        \t\ttcp dport @ports drop comment \"two\nlines\" # handle 9\n\t}\n}\n";

    #[test]
    fn rules_are_told_by_their_handles() {
        let rules = parse(LISTING, "in");
        let first = "tcp dport 22 accept comment \"no # handle 5\"".to_owned();
        let second = "tcp dport @ports drop comment \"two lines\"".to_owned();
        assert_eq!(rules, [(8, first), (9, second)]);
        assert!(parse(LISTING, "i").is_empty());
    }

    #[test]
    fn a_chain_without_a_name_is_part_of_the_rule_that_jumps_there() {
        let listing = "table ip t {\n\tchain c { # handle 1\n\t\ttcp dport 1 jump {\n\
            \t\t\tip saddr 1.1.1.1 drop\n\t\t} # handle 5\n\t}\n}\n";
        let jump = "tcp dport 1 jump { ip saddr 1.1.1.1 drop }".to_owned();
        assert_eq!(parse(listing, "c"), [(5, jump)]);
    }

    #[test]
    fn a_name_that_holds_a_command_is_not_handed_to_nft() {
        assert!(is_identifier("service-ABC/tcp/http__10.0.0.1"));
        assert!(!is_identifier("x; flush ruleset"));
        assert!(!is_identifier("{"));
        assert!(!is_identifier("-f"));
        assert!(!is_identifier(""));
    }

    proptest! {
        #[test]
        fn any_listing_is_read_to_its_end(lines in prop::collection::vec("[\ta-z#\" ]{0,20}( # handle [0-9]{1,30})?", 0..20)) {
            let listing = format!("table ip t {{\n\tchain c {{\n{}\n\t}}\n}}", lines.join("\n"));
            prop_assert!(parse(&listing, "c").len() <= lines.len());
        }
    }
}
