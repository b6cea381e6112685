//! Whether the kernel has nf_tables at this moment.
//!
//! Asking an absent part of netfilter over netlink would load it as a module (`netlink_create`
//! and `nfnetlink_rcv_msg` call `request_module`): it must be known before.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;

/// A function of nf_tables that answers requests.
const SYMBOL: &str = "nf_tables_getgen";

/// True where nf_tables is part of the kernel or loaded as a module.
pub fn nf_tables() -> io::Result<bool> {
    Ok(Path::new("/sys/module/nf_tables").exists() || built_in()?)
}

/// What is built in stays so until the next boot, and going through the kernel's 200,000 symbols
/// takes tens of milliseconds: it is done once.
fn built_in() -> io::Result<bool> {
    static BUILT_IN: OnceLock<bool> = OnceLock::new();
    if let Some(known) = BUILT_IN.get() {
        return Ok(*known);
    }
    let symbols = BufReader::with_capacity(64 << 10, File::open("/proc/kallsyms")?);
    let found = names(symbols)?;
    Ok(*BUILT_IN.get_or_init(|| found))
}

/// Whether the symbol is listed without a module behind it. Names are shown to everybody,
/// addresses only to the privileged.
fn names(mut symbols: impl BufRead) -> io::Result<bool> {
    let mut line = Vec::new();
    while symbols.read_until(b'\n', &mut line)? > 0 {
        let mut fields = line.trim_ascii().split(u8::is_ascii_whitespace).skip(2);
        if fields.next() == Some(SYMBOL.as_bytes()) && fields.next().is_none() {
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
        assert!(names(&built_in[..]).unwrap());
        assert!(!names(&module[..]).unwrap());
        assert!(!names(&b""[..]).unwrap());
    }
}
