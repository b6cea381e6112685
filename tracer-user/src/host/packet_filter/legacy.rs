//! Tables of legacy iptables, ip6tables and arptables.
//!
//! The kernel hands a table out by `getsockopt`. It creates a table that does not exist when it
//! is asked for one by name (`xt_request_find_table_lock`), so only the tables that it lists
//! itself are asked for.

use std::io;

use crate::bounded;
use crate::case::FilterFamily;
use crate::firewall::ruleset::Table;
use crate::host::netns::{Namespace, NetnsError, within};

mod blob;
mod chains;
mod conditions;
mod image;
mod layout;
mod sockopt;

pub use image::Image;

use layout::Layout;

/// The kernel keeps no more than a handful of tables in a family; a name takes 32 bytes.
const NAMES: u64 = 4096;

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
enum LegacyError {
    #[error("cannot {step}: {source}")]
    Kernel {
        step: &'static str,
        source: io::Error,
    },
    #[error("it takes {0} bytes, more than are read")]
    TooLarge(u32),
    #[error("the kernel's answer makes no sense at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("its place among the hooks is not known")]
    Unplaced,
    #[error("it was replaced each time it was read")]
    Unsteady,
}

/// Every legacy table of `namespace`, and in words what could not be read.
pub fn tables(namespace: &Namespace) -> (Vec<Table>, Vec<String>) {
    match within(namespace, here) {
        Ok(read) => read,
        // Its rules went with it.
        Err(NetnsError::Vanished(_)) => (Vec::new(), Vec::new()),
        Err(error) => (Vec::new(), vec![format!("legacy iptables: {error}")]),
    }
}

/// Every table of `namespace` as bytes; those that cannot be read are left out.
pub fn images(namespace: &Namespace) -> Vec<Image> {
    within(namespace, images_here).unwrap_or_default()
}

fn images_here() -> Vec<Image> {
    let layouts = [&layout::IP, &layout::IP6, &layout::ARP].into_iter();
    let named = layouts.flat_map(|layout| {
        let names = names(layout).unwrap_or_default().into_iter();
        names.map(move |name| (layout, name))
    });
    named
        .filter_map(|(layout, name)| {
            let read = sockopt::read(layout, &name).ok()?;
            Image::of(layout, &name, &read.info, read.entries)
        })
        .collect()
}

/// Every table of the calling thread's namespace.
fn here() -> (Vec<Table>, Vec<String>) {
    let mut tables = Vec::new();
    let mut unread = Vec::new();
    for layout in [&layout::IP, &layout::IP6, &layout::ARP] {
        let names = match names(layout) {
            Ok(names) => names,
            Err(source) => {
                unread.push(format!("{}: {source}", layout.names));
                continue;
            }
        };
        for name in names {
            match table(layout, &name) {
                Ok(table) => tables.push(table),
                Err(error) => unread.push(unreadable(layout.family, &name, &error)),
            }
        }
    }
    (tables, unread)
}

fn unreadable(family: FilterFamily, name: &str, error: &LegacyError) -> String {
    let tool = match family {
        FilterFamily::Ip6 => "ip6tables",
        FilterFamily::Arp => "arptables",
        _ => "iptables",
    };
    format!("table {name} of legacy {tool}: {error}")
}

/// The tables that exist. `/proc/net` would show the namespace of the process's first thread.
fn names(layout: &Layout) -> io::Result<Vec<String>> {
    let path = format!("/proc/thread-self/net/{}", layout.names);
    let text = match bounded::read(path, NAMES) {
        Ok(text) => text,
        // This family's legacy tables are not in the kernel.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect())
}

fn table(layout: &Layout, name: &str) -> Result<Table, LegacyError> {
    let read = sockopt::read(layout, name)?;
    chains::table(layout, name, &read.info, &read.entries)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
pub(super) mod tests;
