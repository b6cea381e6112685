//! What a rule of iptables can ask of a packet, for both families and both backends.

use anyhow::{Context, Result};
use whyrefused_tests::host::worker_user;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::process::run;
use whyrefused_tests::ruleset::iptables;
use whyrefused_tests::scene::{Case, Expected, case, refused};

use super::{ONCE_REPEATED, blocked_here, host_with};

/// One program with what differs between the families.
pub struct Family {
    pub program: &'static str,
    local: &'static str,
    /// Another address, and a range of it, and one of the local address.
    other: &'static str,
    range: &'static str,
    nearly: &'static str,
    hops: &'static str,
}

pub const FOUR: Family = Family {
    program: "iptables",
    local: "127.0.0.1",
    other: "10.0.0.0/8",
    range: "127.0.0.1-127.0.0.9",
    nearly: "127.0.0.2-127.0.0.9",
    hops: "-m ttl --ttl-eq 64",
};

pub const SIX: Family = Family {
    program: "ip6tables",
    local: "::1",
    other: "fd00::/8",
    range: "::1-::9",
    nearly: "::2-::9",
    hops: "-m hl --hl-eq 64",
};

impl Family {
    pub fn legacy(mut self) -> Self {
        self.program = match self.program {
            "iptables" => "iptables-legacy",
            _ => "ip6tables-legacy",
        };
        self
    }

    pub fn nft(mut self) -> Self {
        self.program = match self.program {
            "iptables" => "iptables-nft",
            _ => "ip6tables-nft",
        };
        self
    }

    pub fn address(&self, port: u16) -> String {
        match self.local {
            "::1" => format!("[::1]:{port}"),
            local => format!("{local}:{port}"),
        }
    }

    pub fn case(&self, name: &str, port: u16, expected: Expected) -> Case {
        case(name, &self.address(port), expected)
    }
}

/// Conditions of which the first holds for the packet and the second nearly does, in OUTPUT.
fn conditions(family: &Family) -> Result<Vec<(&'static str, String, String)>> {
    let user = worker_user()?;
    let Family {
        other,
        range,
        nearly,
        hops,
        ..
    } = family;
    let same = |name, holds: &str, nearly: &str| (name, holds.to_owned(), nearly.to_owned());
    Ok(vec![
        same(
            "state",
            "-m conntrack --ctstate NEW",
            "-m conntrack --ctstate RELATED,ESTABLISHED",
        ),
        same(
            "old-state",
            "-m state --state NEW",
            "-m state --state INVALID",
        ),
        same(
            "owner",
            &format!("-m owner --uid-owner {}", user.uid),
            "-m owner --uid-owner 0",
        ),
        same(
            "group",
            &format!("-m owner --gid-owner {}", user.gid),
            "-m owner --gid-owner 0",
        ),
        same(
            "type",
            "-m addrtype --dst-type LOCAL",
            "-m addrtype --dst-type MULTICAST",
        ),
        same(
            "range",
            &format!("-m iprange --dst-range {range}"),
            &format!("-m iprange --dst-range {nearly}"),
        ),
        same(
            "set",
            "-m set --match-set whole dst,dst",
            "-m set --match-set nearly dst,dst",
        ),
        same("mark", "-m mark --mark 0x10/0xf0", "-m mark --mark 0x11"),
        same("not", &format!("! -s {other}"), &format!("-d {other}")),
        same("device", "-o l+", "-o lo0"),
        same("flags", "--syn", "--tcp-flags ACK ACK"),
        same("hops", hops, "-m mark --mark 0x11"),
        same(
            "connections",
            "-m connlimit --connlimit-above 0",
            "-m connlimit --connlimit-above 1000",
        ),
        same(
            "nth",
            "-m statistic --mode nth --every 1 --packet 0",
            "-m owner --uid-owner 0",
        ),
        same("word", "-m u32 --u32 0=0:0xffffffff", "-m u32 --u32 0=1"),
        same(
            "comment",
            "-m comment --comment here",
            "-m mark --mark 0x11 -m comment --comment there",
        ),
    ])
}

/// Rules for each of the conditions: what nearly holds would drop.
fn rules_of_conditions(conditions: &[(&str, String, String)], first: u16) -> String {
    let rules: String = (first..)
        .zip(conditions)
        .map(|(port, (_, holds, nearly))| {
            format!(
                "-A OUTPUT -p tcp -m tcp --dport {port} {nearly} -j DROP
-A OUTPUT -p tcp -m tcp --dport {port} {holds} -j REJECT --reject-with tcp-reset\n"
            )
        })
        .collect();
    format!(
        "*mangle
-A OUTPUT -p tcp -m tcp --dport {first}:{last} -j MARK --set-xmark 0x12/0xffffffff
COMMIT
*filter
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -p udp -j DROP
{rules}COMMIT\n",
        last = first + 19
    )
}

fn sets(here: &Namespace, family: &Family, first: u16) -> Result<()> {
    let inet = if family.local == "::1" {
        "inet6"
    } else {
        "inet"
    };
    for (name, from, to) in [("whole", first, first + 19), ("nearly", 1, 9)] {
        run(here
            .command("ipset")
            .args(["create", name, "hash:ip,port", "family", inet]))?;
        for port in [from, from + 6, to] {
            let element = format!("{},tcp:{port}", family.local);
            run(here.command("ipset").args(["add", name, &element]))?;
        }
    }
    Ok(())
}

fn conditions_of(family: &Family, first: u16) -> Result<()> {
    let Some(host) = host_with(&[(family.program, "iptables"), ("ipset", "ipset")]) else {
        return Ok(());
    };
    let conditions = conditions(family)?;
    let cases: Vec<Case> = (first..)
        .zip(&conditions)
        .map(|(port, (name, ..))| {
            let telling = format!("--dport {port} *-j REJECT");
            let rule = iptables(family.program, "filter OUTPUT", "output", &telling);
            family.case(name, port, refused("firewall-reject").by(rule))
        })
        .collect();
    let healthy = family.address(first + 19);
    blocked_here(&host, &healthy, ONCE_REPEATED, &cases, |here| {
        sets(here, family, first)?;
        here.restore(family.program, &rules_of_conditions(&conditions, first))
            .context("the rules")
    })
}

#[test]
fn conditions_of_iptables_nft_are_understood() -> Result<()> {
    conditions_of(&FOUR.nft(), 26400)
}

#[test]
fn conditions_of_ip6tables_nft_are_understood() -> Result<()> {
    conditions_of(&SIX.nft(), 26420)
}

#[test]
fn conditions_of_iptables_legacy_are_understood() -> Result<()> {
    conditions_of(&FOUR.legacy(), 26440)
}

#[test]
fn conditions_of_ip6tables_legacy_are_understood() -> Result<()> {
    conditions_of(&SIX.legacy(), 26460)
}
