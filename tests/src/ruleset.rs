//! The packet filters of a namespace: loading them, and finding a rule as its owner's tool lists
//! it.

mod generation;
mod listing;

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::host;
use crate::namespace::Namespace;
use crate::process::run;

/// The programs that save what iptables knows of a namespace, and the family of each.
const IPTABLES: [(&str, &str); 5] = [
    ("iptables-legacy", "ip"),
    ("ip6tables-legacy", "ip6"),
    ("iptables-nft", "ip"),
    ("ip6tables-nft", "ip6"),
    ("arptables-nft", "arp"),
];

/// All packet filters of a namespace, counters left out: two readings are equal where nobody
/// changed anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Of nftables; the kernel counts every change.
    generation: u32,
    /// Handle and text of every rule, by family, table and chain.
    nft: BTreeMap<String, Vec<(u64, String)>>,
    /// Rules as `iptables-save` prints them, by program, and by table and chain.
    saved: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
    /// The tables that legacy iptables has made.
    legacy_tables: String,
}

/// Who is to be blamed: a rule, or the policy of a chain.
#[derive(Debug, Clone)]
pub struct Culprit {
    pub backend: &'static str,
    pub family: String,
    pub table: String,
    pub chain: String,
    pub hook: &'static str,
    /// What tells its text from the others of its chain, see [`Ruleset::find`]. Null for the
    /// policy.
    pub telling: Option<String>,
    /// The namespace, where it is not nginx's.
    pub netns: Option<u64>,
    /// How many other rules the evidence leaves where the kernel is not seen to evaluate rules.
    pub alternatives: usize,
    /// What tells it from these where the kernel is.
    pub apart: Apart,
    /// The evidence is not whole.
    pub unsure: bool,
    /// Its text is the tool's own.
    pub reworded: bool,
}

/// What tells a rule from others that fit as well, in the eyes of who sees it evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Its handle.
    ByPlace,
    /// Its chain or table: another has the same handle.
    ByOwner,
}

/// How the event tells a rule from the others of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// A rule of nftables: its handle.
    Handle(u64),
    /// A rule of legacy iptables: its place in the chain, from 1.
    Position(u64),
    Policy,
}

/// The rule of nftables in the chain `place` (`inet filter input`) that `telling` tells from the
/// others.
pub fn nft(place: &str, hook: &'static str, telling: &str) -> Culprit {
    let mut words = place.splitn(3, ' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    Culprit {
        backend: "nft",
        family: next(),
        table: next(),
        chain: next(),
        hook,
        telling: Some(telling.to_owned()),
        netns: None,
        alternatives: 0,
        apart: Apart::ByPlace,
        unsure: false,
        reworded: false,
    }
}

/// The rule of `program` (`ip6tables-legacy`, ...) in the chain `place` (`filter INPUT`).
pub fn iptables(program: &str, place: &str, hook: &'static str, telling: &str) -> Culprit {
    let mut known = IPTABLES.iter();
    let family = known
        .find(|(known, _)| *known == program)
        .map_or("ip", |(_, family)| *family);
    let backend = if program.ends_with("legacy") {
        "iptables-legacy"
    } else {
        "iptables-nft"
    };
    Culprit {
        backend,
        ..nft(&format!("{family} {place}"), hook, telling)
    }
}

impl Culprit {
    /// The policy of the chain instead of a rule.
    #[must_use]
    pub fn policy(mut self) -> Self {
        self.telling = None;
        self
    }

    #[must_use]
    pub fn at(mut self, namespace: &Namespace) -> Self {
        self.netns = Some(namespace.inode());
        self
    }

    /// It is named first, and `others` fit as well.
    #[must_use]
    pub fn or(mut self, others: usize) -> Self {
        self.alternatives = others;
        self
    }

    /// What tells it from the others where the kernel is seen to evaluate rules.
    #[must_use]
    pub fn told(mut self, apart: Apart) -> Self {
        self.apart = apart;
        self
    }

    /// It is named, and not for certain.
    #[must_use]
    pub fn unsure(mut self) -> Self {
        self.unsure = true;
        self
    }

    /// Its text is the tool's own, for nobody else lists rules here.
    #[must_use]
    pub fn reworded(mut self) -> Self {
        self.reworded = true;
        self
    }
}

impl Ruleset {
    /// What `namespace` has now. Programs that this host lacks have nothing to tell.
    ///
    /// # Errors
    ///
    /// One of the programs fails.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let mut nft = BTreeMap::new();
        if host::program("nft", "nftables").is_ok() {
            nft = listing::nft(&printed(
                namespace.command("nft").args(["-a", "list", "ruleset"]),
            )?)?;
        }
        let mut saved = BTreeMap::new();
        for (program, _) in IPTABLES {
            if host::program(program, "iptables").is_ok() {
                let text = printed(&mut namespace.command(format!("{program}-save")))?;
                saved.insert(program, listing::saved(&text));
            }
        }
        Ok(Self {
            generation: generation::read(namespace)?,
            nft,
            saved,
            legacy_tables: generation::legacy_tables(namespace)?,
        })
    }

    /// Which rule is meant, and its text. Its telling words are separated by `*`, in angle
    /// brackets where they are all of the text, or `#2` for the second of the chain.
    ///
    /// # Errors
    ///
    /// No rule, or more than one, has the telling words: the test itself is wrong.
    pub fn find(&self, culprit: &Culprit) -> Result<(Which, Option<String>)> {
        let Some(telling) = &culprit.telling else {
            return Ok((Which::Policy, None));
        };
        let Culprit {
            backend,
            family,
            table,
            chain,
            ..
        } = culprit;
        let place = format!("{family} {table} {chain}");
        let rules = self.nft.get(&place);
        if *backend == "nft" {
            let texts = rules.with_context(|| format!("no chain {place}"))?;
            let index = only(texts.iter().map(|(_, text)| text), telling)?;
            let rule = texts.get(index).context("no such place in the chain")?;
            let (handle, text) = rule.clone();
            return Ok((Which::Handle(handle), Some(text)));
        }
        let program = IPTABLES.iter().find(|(program, known)| {
            program.ends_with(backend.trim_start_matches("iptables")) && known == family
        });
        let lines = program
            .and_then(|(program, _)| self.saved.get(program))
            .and_then(|chains| chains.get(&format!("{table} {chain}")))
            .with_context(|| format!("no chain {place} of {backend}"))?;
        let index = only(lines.iter(), telling)?;
        let which = if *backend == "iptables-nft" {
            let handle = rules.and_then(|rules| rules.get(index));
            Which::Handle(
                handle
                    .with_context(|| format!("nft does not list {place}"))?
                    .0,
            )
        } else {
            Which::Position(index as u64 + 1)
        };
        let line = lines.get(index).context("no such place in the chain")?;
        Ok((which, Some(line.clone())))
    }
}

/// The text of a rule without what its counters say.
pub fn without_counters(text: &str) -> String {
    listing::without_counters(text)
}

fn printed(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}

/// The place of the only text that has all the words in this order, separated by `*`; or of the
/// text that is in angle brackets; or `#2` for the second.
fn only<'t>(texts: impl Iterator<Item = &'t String>, telling: &str) -> Result<usize> {
    if let Some(place) = telling.strip_prefix('#') {
        return Ok(place.parse::<usize>()? - 1);
    }
    let whole = telling
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'));
    let found: Vec<usize> = texts
        .enumerate()
        .filter(|(_, text)| whole.map_or_else(|| has_all(text, telling), |whole| *text == whole))
        .map(|(index, _)| index)
        .collect();
    match found[..] {
        [index] => Ok(index),
        _ => bail!("{} rules say {telling:?}", found.len()),
    }
}

fn has_all(text: &str, telling: &str) -> bool {
    let mut rest = text;
    telling.split('*').all(|words| {
        rest.split_once(words).is_some_and(|(_, after)| {
            rest = after;
            true
        })
    })
}

impl Namespace {
    /// Loads a ruleset of nftables.
    ///
    /// # Errors
    ///
    /// `nft` is missing or refuses it.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.feed("nft", &["-f", "-"], ruleset)
    }

    /// Loads rules of `program` (`iptables-nft`, `ip6tables-legacy`, ...) as `iptables-restore`
    /// takes them, and keeps those that are there.
    ///
    /// # Errors
    ///
    /// It is missing or refuses them.
    pub fn restore(&self, program: &str, rules: &str) -> Result<()> {
        ensure!(
            IPTABLES.iter().any(|(known, _)| *known == program),
            "{program} is no program of iptables"
        );
        self.feed(&format!("{program}-restore"), &["-w", "10", "-n"], rules)
    }
}
