//! Reads what `nft -a list ruleset` and `iptables-save` print.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Handle and text of every rule, by family, table and chain.
pub(super) fn nft(text: &str) -> Result<BTreeMap<String, Vec<(u64, String)>>> {
    let mut chains: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let (mut table, mut chain) = (String::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("table ") {
            table = heading(rest).to_owned();
        } else if let Some(rest) = line.strip_prefix("chain ") {
            let place = format!("{table} {}", heading(rest));
            chains.entry(place.clone()).or_default();
            chain = Some(place);
        } else if line == "}" {
            chain = None;
        } else if let (Some(place), Some((rule, handle))) = (&chain, line.rsplit_once(" # handle "))
        {
            let handle = handle
                .parse()
                .with_context(|| format!("no handle: {line}"))?;
            let rules = chains.entry(place.clone()).or_default();
            rules.push((handle, without_counters(rule)));
        }
    }
    Ok(chains)
}

/// Rules by table and chain.
pub(super) fn saved(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let chain = rest.split(' ').next().unwrap_or_default();
            let rules = chains.entry(format!("{table} {chain}")).or_default();
            rules.push(line.to_owned());
        }
    }
    chains
}

/// `counter packets 3 bytes 180` becomes `counter`, and `quota over 1 bytes used 60 bytes` ends
/// before `used`.
pub(super) fn without_counters(text: &str) -> String {
    let mut words = text.split(' ').peekable();
    let mut kept: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        if word == "used" && words.clone().nth(1) == Some("bytes") {
            words.nth(1);
            continue;
        }
        kept.push(word);
        if word == "counter" && words.peek() == Some(&"packets") {
            // `packets N bytes N`
            words.nth(3);
        }
    }
    kept.join(" ")
}

/// `NAME { # handle 3` without what follows the name.
fn heading(line: &str) -> &str {
    line.split_once(" {").map_or(line, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_nft_are_read_with_their_chain_and_handle() -> Result<()> {
        let text = "table inet lab { # handle 3
	chain input { # handle 1
		type filter hook input priority filter; policy accept;
		tcp dport 5 counter packets 1 bytes 60 drop # handle 4
	}

	chain empty { # handle 2
	}
}
";
        let read = nft(text)?;
        assert_eq!(
            read["inet lab input"],
            [(4, "tcp dport 5 counter drop".to_owned())]
        );
        assert!(read["inet lab empty"].is_empty());
        Ok(())
    }

    #[test]
    fn rules_of_iptables_are_read_with_their_table_and_chain() {
        let text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n";
        assert_eq!(saved(text)["filter INPUT"], ["-A INPUT -j DROP"]);
    }
}
