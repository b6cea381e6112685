//! Names that match a pattern of glob(3), which nginx's `include` uses with its defaults.

/// Whether the name of a file matches one component of a pattern. A leading dot is matched by a
/// dot alone. The time is bounded by the product of both lengths, whatever the pattern.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") && !pattern.starts_with(b"\\.") {
        return false;
    }
    let (mut at, mut read) = (0, 0);
    // Where to go on after the last `*`, should it have to take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        let step = match (pattern.get(at..), name.get(read)) {
            (Some([]), None) => return true,
            (Some(rest), Some(byte)) => one(rest, *byte),
            _ => None,
        };
        if let Some(length) = step {
            at += length;
            read += 1;
        } else if let Some((pattern_at, name_at)) = retry
            && name_at < name.len()
        {
            retry = Some((pattern_at, name_at + 1));
            (at, read) = (pattern_at, name_at + 1);
        } else {
            return false;
        }
    }
}

/// Whether the pattern has anything to match: `strpbrk(name, "*?[")` as in `ngx_conf_include`.
pub fn is_pattern(text: &[u8]) -> bool {
    memchr::memchr3(b'*', b'?', b'[', text).is_some()
}

/// The length of the pattern's first element, where it matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => match set(rest) {
            Some((found, length)) => found(byte).then_some(1 + length),
            None => (byte == b'[').then_some(1),
        },
        [b'\\', quoted, ..] => (*quoted == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// The set behind a `[`, and its length with the closing bracket; None where it is not closed.
fn set(text: &[u8]) -> Option<(impl Fn(u8) -> bool + '_, usize)> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let begin = usize::from(negated);
    // A bracket in first place stands for itself.
    let end = begin + 1 + memchr::memchr(b']', text.get(begin + 1..)?)?;
    let members = &text[begin..end];
    let contains = move |byte: u8| {
        let mut rest = members;
        while let [first, tail @ ..] = rest {
            if let [b'-', last, tail @ ..] = tail {
                if (*first..=*last).contains(&byte) {
                    return !negated;
                }
                rest = tail;
            } else {
                if *first == byte {
                    return !negated;
                }
                rest = tail;
            }
        }
        negated
    };
    Some((contains, end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, name: &str) -> bool {
        matches(pattern.as_bytes(), name.as_bytes())
    }

    #[test]
    fn stars_and_question_marks_match() {
        assert!(check("*.conf", "app.conf"));
        assert!(check("a*b*c", "aXXbYYbc"));
        assert!(check("*", "x"));
        assert!(check("a?c", "abc"));
        assert!(check("plain", "plain"));
        assert!(!check("*.conf", "app.conf.bak"));
        assert!(!check("a?c", "ac"));
        assert!(!check("", "x"));
    }

    #[test]
    fn a_hidden_file_needs_a_dot() {
        assert!(!check("*.conf", ".app.conf"));
        assert!(!check("?app", ".app"));
        assert!(check(".*", ".app"));
    }

    #[test]
    fn sets_match_as_in_glob() {
        assert!(check("[0-9][a-c]*", "1b-x"));
        assert!(!check("[!0-9]*", "1b"));
        assert!(check("[^0-9]*", "b"));
        assert!(check("[]a]", "]"));
        assert!(check("a[", "a["));
        assert!(check(r"\*", "*"));
        assert!(!check(r"\*", "x"));
    }

    #[test]
    fn a_pattern_made_to_backtrack_ends_soon() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!check(&pattern, &"a".repeat(4000)));
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_a_star(name in "[a-z][a-z0-9._-]{0,20}") {
            prop_assert!(check(&name, &name));
            prop_assert!(check("*", &name));
        }

        #[test]
        fn any_pattern_is_survived(pattern in "[a*?\\[\\]!^\\\\.-]{0,20}", name in "[a.\\[\\]-]{0,10}") {
            let _ = check(&pattern, &name);
        }
    }
}
