//! Makes text that others chose (process names, paths, request lines) safe to show.
//!
//! A terminal obeys control characters wherever they come from, and bidirectional overrides
//! make a line read other than it is. Both are shown as escapes instead.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character that a terminal would obey, hide or reorder written as an
/// escape: `\x1b` for control characters, `\u{202e}` for the others. Backslashes of the text
/// itself stay as they are: the rules and patterns that are shown are full of them.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            push_escape(&mut shown, character);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Bytes as text, with each byte that is no UTF-8 written as `\xff`.
pub fn text_of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            push_byte(&mut text, *byte);
        }
    }
    text
}

/// Whether a terminal would obey, hide or reorder instead of show this character.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}'                    // Arabic letter mark
            | '\u{200b}'..='\u{200f}'    // zero width and direction marks
            | '\u{2028}'..='\u{202e}'    // line separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}'    // invisible operators, isolates
            | '\u{feff}'                 // byte order mark
            | '\u{fff9}'..='\u{fffb}'    // annotations
            | '\u{e0000}'..='\u{e0fff}'  // tags and what is ignored by default
        )
}

fn push_escape(text: &mut String, character: char) {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => push_byte(text, byte),
        _ => push_formatted(text, format_args!("\\u{{{:x}}}", u32::from(character))),
    }
}

fn push_byte(text: &mut String, byte: u8) {
    push_formatted(text, format_args!("\\x{byte:02x}"));
}

fn push_formatted(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_left_alone() {
        assert!(matches!(visible("café 日本 \\d+"), Cow::Borrowed(_)));
    }

    #[test]
    fn an_escape_sequence_is_shown_not_obeyed() {
        assert_eq!(visible("a\x1b[31mb\nc\x7f"), "a\\x1b[31mb\\x0ac\\x7f");
    }

    #[test]
    fn a_c1_control_and_a_bidi_override_are_shown() {
        assert_eq!(visible("\u{9b}31m\u{202e}gpj"), "\\u{9b}31m\\u{202e}gpj");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_one_by_one() {
        assert_eq!(text_of_bytes(b"/run/\xff\xc3\xa9.sock"), "/run/\\xffé.sock");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = text_of_bytes(&bytes);
            prop_assert!(!visible(&text).chars().any(is_unsafe));
        }

        #[test]
        fn nothing_unsafe_is_left_of_any_text(text in "\\PC*|[\\x00-\\x{2070}]*") {
            prop_assert!(!visible(&text).chars().any(is_unsafe));
        }
    }
}
