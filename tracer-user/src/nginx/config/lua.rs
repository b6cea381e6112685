//! Passing over the Lua text of a `*_by_lua_block`.

/// How many bytes the rest of a Lua block takes, its closing brace included: `text` begins behind
/// the opening one. Braces inside of strings and comments do not count
/// (`ngx_http_lua_conf_lua_block_parse`). All of the text, where the block does not end.
pub fn block_end(text: &[u8]) -> usize {
    let mut depth = 1_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let rest = &text[at..];
        at += match byte {
            b'{' => {
                depth += 1;
                1
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
                1
            }
            b'"' | b'\'' => short_string(rest, *byte),
            b'[' => long_bracket(rest).unwrap_or(1),
            b'-' if rest.starts_with(b"--") => 2 + comment(&rest[2..]),
            _ => 1,
        };
    }
    text.len()
}

fn short_string(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if *byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn comment(text: &[u8]) -> usize {
    long_bracket(text)
        .unwrap_or_else(|| memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1))
}

/// The length of `[[ … ]]` or `[==[ … ]==]`, where the text begins with one.
fn long_bracket(text: &[u8]) -> Option<usize> {
    let level = text
        .strip_prefix(b"[")?
        .iter()
        .take_while(|byte| **byte == b'=')
        .count();
    let opening = level + 2;
    if text.get(level + 1) != Some(&b'[') {
        return None;
    }
    let mut closing = vec![b'='; opening];
    closing[0] = b']';
    closing[level + 1] = b']';
    let inner = &text[opening..];
    let end = memchr::memmem::find(inner, &closing);
    Some(end.map_or(text.len(), |end| opening + end + closing.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left behind the block.
    fn behind(text: &str) -> &str {
        &text[block_end(text.as_bytes())..]
    }

    #[test]
    fn nested_tables_end_before_the_block_does() {
        assert_eq!(behind("local a = { b = {} } } rest"), " rest");
    }

    #[test]
    fn braces_in_strings_and_comments_do_not_count() {
        assert_eq!(behind(r#"a = "}" b = '\'}' } rest"#), " rest");
        assert_eq!(behind("-- }\n} rest"), " rest");
        assert_eq!(behind("--[[ }\n} ]] } rest"), " rest");
        assert_eq!(behind("--[==[ ]] } ]==] } rest"), " rest");
        assert_eq!(behind("a = [[ } ]] b = [=[ ]] } ]=] } rest"), " rest");
        assert_eq!(behind("a[1] = b[c] } rest"), " rest");
        assert_eq!(behind("--[ } not long\n} rest"), " rest");
    }

    #[test]
    fn a_block_without_end_takes_all() {
        assert_eq!(behind("a = { }"), "");
        assert_eq!(behind("a = [==[ }"), "");
        assert_eq!(behind("a = \"\\"), "");
    }

    proptest! {
        #[test]
        fn the_end_is_never_beyond_the_text(text in "[a{}\"'\\\\\\[=\\]\n-]{0,60}") {
            prop_assert!(block_end(text.as_bytes()) <= text.len());
        }
    }
}
