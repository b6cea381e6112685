//! What nginx and its derivatives write over their command line (`ngx_setproctitle`).

/// The products whose title is believed where the executable can't be read.
const PRODUCTS: [&str; 5] = ["nginx", "angie", "openresty", "tengine", "freenginx"];

/// A process title such as `nginx: worker process`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    pub kind: Kind,
    /// The product in front of the colon is a known derivative of nginx.
    pub known_product: bool,
    /// For a master: its arguments, joined by spaces.
    pub arguments: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Master,
    Worker,
    /// Angie gives itself a title also without a master.
    Single,
    /// Cache manager, cache loader, OpenResty's privileged agent and the like.
    Helper,
}

impl Title {
    /// The title in the bytes of `/proc/PID/cmdline`, if they are one.
    pub fn parse(cmdline: &[u8]) -> Option<Self> {
        let end = cmdline.iter().position(|byte| *byte == 0);
        let (title, padding) = cmdline.split_at(end.unwrap_or(cmdline.len()));
        // ngx_setproctitle drops every other argument and pads with NUL on Linux.
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let title = String::from_utf8_lossy(title);
        let (product, role) = title.split_once(": ")?;
        let known_product = PRODUCTS.contains(&product);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if product.is_empty() || product.len() > 32 || !product.bytes().all(is_name) {
            return None;
        }
        let kind = kind_of(role)?;
        let arguments = (kind != Kind::Worker && kind != Kind::Helper)
            .then(|| arguments_of(role))
            .flatten();
        Some(Self {
            kind,
            known_product,
            arguments,
        })
    }
}

fn kind_of(role: &str) -> Option<Kind> {
    // The role ends here, or goes on with a generation, a state or the arguments.
    let is = |words: &str| {
        role.strip_prefix(words)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    if is("master process") {
        Some(Kind::Master)
    } else if is("worker process") {
        Some(Kind::Worker)
    } else if is("single process") {
        Some(Kind::Single)
    } else {
        let name = role.split(" #").next().unwrap_or(role);
        name.ends_with(" process").then_some(Kind::Helper)
    }
}

/// nginx: `master process ARGV…`; angie: `master process vVERSION #GENERATION [ARGV…]`
/// (`ngx_update_process_title`).
fn arguments_of(role: &str) -> Option<String> {
    let rest = role.split_once(" process ")?.1;
    if let Some((version, bracketed)) = rest.split_once(" [")
        && version.starts_with('v')
        && version.contains(" #")
    {
        let inner = bracketed.strip_suffix(']').unwrap_or(bracketed);
        return Some(inner.to_owned());
    }
    Some(rest.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(cmdline: &[u8]) -> Option<Kind> {
        Title::parse(cmdline).map(|title| title.kind)
    }

    #[test]
    fn a_master_carries_its_arguments() {
        let title = Title::parse(b"nginx: master process /usr/sbin/nginx -g daemon on;\0\0");
        let title = title.expect("a title");
        assert_eq!(title.kind, Kind::Master);
        assert!(title.known_product);
        assert_eq!(
            title.arguments.as_deref(),
            Some("/usr/sbin/nginx -g daemon on;")
        );
    }

    #[test]
    fn an_angie_master_wraps_its_arguments_in_brackets() {
        let title =
            Title::parse(b"angie: master process v1.7.0 #12 [/usr/sbin/angie -c /e/a.conf]");
        assert_eq!(
            title.expect("a title").arguments.as_deref(),
            Some("/usr/sbin/angie -c /e/a.conf")
        );
    }

    #[test]
    fn workers_are_recognised_with_state_and_generation() {
        for title in [
            "nginx: worker process",
            "nginx: worker process is shutting down",
            "angie: worker process #3",
            "angie: worker process is shutting down #3",
            "openresty: worker process",
        ] {
            assert_eq!(kind(title.as_bytes()), Some(Kind::Worker), "{title}");
        }
    }

    #[test]
    fn helpers_are_no_workers() {
        for title in [
            "nginx: cache manager process",
            "angie: cache loader process #1",
            "nginx: privileged agent process",
        ] {
            assert_eq!(kind(title.as_bytes()), Some(Kind::Helper), "{title}");
        }
    }

    #[test]
    fn a_single_angie_has_a_title_too() {
        let title = Title::parse(b"angie: single process v1.7.0 #1 [angie]").expect("a title");
        assert_eq!(title.kind, Kind::Single);
        assert_eq!(title.arguments.as_deref(), Some("angie"));
    }

    #[test]
    fn another_products_master_is_not_known() {
        let title = Title::parse(b"php-fpm: master process (/etc/php/fpm.conf)").expect("a title");
        assert!(!title.known_product);
    }

    #[test]
    fn other_command_lines_are_no_titles() {
        for cmdline in [
            &b"nginx: worker process\x00100\x00"[..],
            b"nginx: worker processes",
            b"/usr/sbin/nginx\0-g\0daemon off;\0",
            b"php-fpm: pool www",
            b": worker process",
            b"a b: worker process",
            b"",
        ] {
            assert_eq!(kind(cmdline), None, "{}", cmdline.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Title::parse(&bytes);
        }

        #[test]
        fn arguments_are_kept_as_they_stand(arguments in "/[a-z/]{1,20}( -[a-z] [a-z/;]{1,9}){0,3}") {
            let cmdline = format!("nginx: master process {arguments}\0");
            let title = Title::parse(cmdline.as_bytes()).expect("a title");
            prop_assert_eq!(title.arguments, Some(arguments));
        }
    }
}
