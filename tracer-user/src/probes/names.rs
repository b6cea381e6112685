//! How this kernel calls the values of its enums: the numbers shift from kernel to kernel.

use std::collections::HashMap;

use crate::btf::Btf;

/// Names without their common prefix.
#[derive(Debug, Default)]
pub struct Names {
    drop_reasons: HashMap<u32, String>,
    reset_reasons: HashMap<u32, String>,
}

impl Names {
    pub fn read(btf: &Btf) -> Self {
        Self {
            drop_reasons: enumerators(btf, "skb_drop_reason", "SKB_DROP_REASON_"),
            reset_reasons: enumerators(btf, "sk_rst_reason", "SK_RST_REASON_"),
        }
    }

    /// Such as `NETFILTER_DROP`; the number where it has no name.
    pub fn drop_reason(&self, value: u32) -> String {
        self.drop_reasons
            .get(&value)
            .cloned()
            .unwrap_or_else(|| value.to_string())
    }

    /// Such as `NO_SOCKET`; the number where it has no name.
    pub fn reset_reason(&self, value: u32) -> String {
        self.reset_reasons
            .get(&value)
            .cloned()
            .unwrap_or_else(|| value.to_string())
    }
}

fn enumerators(btf: &Btf, name: &str, prefix: &str) -> HashMap<u32, String> {
    let names = btf.enumerators(name).unwrap_or_default();
    names
        .into_iter()
        .map(|(value, name)| (value, name.strip_prefix(prefix).unwrap_or(&name).to_owned()))
        .collect()
}
