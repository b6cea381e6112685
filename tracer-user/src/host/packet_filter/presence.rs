//! Whether the kernel has a part of netfilter at this moment.
//!
//! Asking an absent part of netfilter over netlink would load it as a module (`netlink_create`
//! and `nfnetlink_rcv_msg` call `request_module`): it must be known before.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;

/// A part of netfilter: its module, and a function of it.
type Part = (&'static str, &'static str);

const NF_TABLES: Part = ("nf_tables", "nf_tables_getgen");
const CONNTRACK: Part = ("nf_conntrack_netlink", "ctnetlink_get_conntrack");
const NFT_COMPAT: Part = ("nft_compat", "nfnl_compat_get_rcu");

/// True where nf_tables is part of the kernel or loaded as a module.
pub fn nf_tables() -> io::Result<bool> {
    static BUILT_IN: OnceLock<bool> = OnceLock::new();
    is_there(NF_TABLES, &BUILT_IN)
}

/// True where connection tracking can be asked over netlink.
pub fn conntrack() -> io::Result<bool> {
    static BUILT_IN: OnceLock<bool> = OnceLock::new();
    is_there(CONNTRACK, &BUILT_IN)
}

/// True where this holds of nft_compat, which makes extensions of iptables usable in nf_tables.
pub fn nft_compat() -> io::Result<bool> {
    static BUILT_IN: OnceLock<bool> = OnceLock::new();
    is_there(NFT_COMPAT, &BUILT_IN)
}

/// What is built in stays so until the next boot, and going through all of the kernel's
/// symbols takes long: it is done once.
fn is_there((module, symbol): Part, built_in: &OnceLock<bool>) -> io::Result<bool> {
    if Path::new("/sys/module").join(module).exists() {
        return Ok(true);
    }
    if let Some(known) = built_in.get() {
        return Ok(*known);
    }
    let symbols = BufReader::with_capacity(64 << 10, File::open("/proc/kallsyms")?);
    let found = has_built_in(symbol, symbols)?;
    Ok(*built_in.get_or_init(|| found))
}

/// Whether the symbol is listed without a module behind it. Names are shown to everybody,
/// addresses only to the privileged.
fn has_built_in(symbol: &str, mut symbols: impl BufRead) -> io::Result<bool> {
    let mut line = Vec::new();
    while symbols.read_until(b'\n', &mut line)? > 0 {
        let mut fields = line.trim_ascii().split(u8::is_ascii_whitespace).skip(2);
        if fields.next() == Some(symbol.as_bytes()) && fields.next().is_none() {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_of_a_module_is_not_built_in() {
        let built_in =
            b"0000000000000000 t nf_tables_getchain\n0000000000000000 t nf_tables_getgen\n";
        let module = b"0000000000000000 t nf_tables_getgen\t[nf_tables]\n";
        assert!(has_built_in(NF_TABLES.1, &built_in[..]).unwrap());
        assert!(!has_built_in(NF_TABLES.1, &module[..]).unwrap());
        assert!(!has_built_in(NF_TABLES.1, &b""[..]).unwrap());
    }
}
