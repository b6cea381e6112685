use proptest::prelude::*;

use super::*;

/// Every directive as `words end`, joined by `|`; the end of the text or the error comes last.
fn read_all(text: impl AsRef<[u8]>) -> String {
    let mut tokens = Tokens::new(text.as_ref());
    let mut read = Vec::new();
    loop {
        let (words, end) = match tokens.read() {
            Ok(Token::Simple(words)) => (words, ";"),
            Ok(Token::Block { words, lua: false }) => (words, "{"),
            Ok(Token::Block { words, lua: true }) => (words, "lua"),
            Ok(Token::End) => {
                read.push("}".to_owned());
                continue;
            }
            Ok(Token::Done) => return read.join("|"),
            Err(error) => {
                read.push(error.to_string());
                return read.join("|");
            }
        };
        let words: Vec<String> = words
            .words
            .iter()
            .map(|word| format!("<{}>", word.escape_ascii()))
            .collect();
        read.push(format!("{}{end}", words.join("")));
    }
}

#[test]
fn directives_and_blocks_are_told_apart() {
    assert_eq!(
        read_all("user www;\nhttp { server {\tlisten 80;}}"),
        "<user><www>;|<http>{|<server>{|<listen><80>;|}|}"
    );
    assert_eq!(read_all(""), "");
    assert_eq!(read_all(" \r\n\t# nothing"), "");
}

#[test]
fn a_comment_begins_only_where_a_word_does() {
    assert_eq!(read_all("a b#c; # d;\n#e\ne;"), "<a><b#c>;|<e>;");
    assert_eq!(read_all("a \"#\" '# x';"), "<a><#><# x>;");
}

#[test]
fn quotes_hold_words_together() {
    assert_eq!(
        read_all(r#"a "b c;{}" 'd "e"' f"g"h;"#),
        r#"<a><b c;{}><d \"e\"><f\"g\"h>;"#
    );
    assert_eq!(read_all(r#"a "" '';"#), "<a><><>;");
}

#[test]
fn a_closing_quote_wants_a_space_or_an_end_behind_it() {
    assert_eq!(read_all("a 'b'c;"), "unexpected \"c\" in line 1");
    assert_eq!(read_all("if ($a = 'b'){"), "<if><($a><=><b><)>{");
    assert_eq!(read_all("a 'b'{"), "<a><b>{");
    assert_eq!(read_all("a 'b'}"), "unexpected \"}\" in line 1");
}

#[test]
fn escapes_are_undone_as_nginx_does() {
    assert_eq!(
        read_all(r#"a \"b\" c\ d "e\"f" \t\n\r \. \;x;"#),
        r#"<a><\"b\"><c\\ d><e\"f><\t\n\r><\\.><\\;x>;"#
    );
    assert_eq!(read_all(r"a \\;"), r"<a><\\>;");
}

#[test]
fn a_brace_behind_a_dollar_belongs_to_the_word() {
    assert_eq!(read_all("set $a ${b}c;"), "<set><$a><${b}c>;");
    assert_eq!(read_all("a x${b};"), "<a><x${b}>;");
    assert_eq!(read_all("location ~ a{2} {"), "<location><~><a>{|<2}>{");
}

#[test]
fn bytes_that_are_not_utf_8_are_kept() {
    assert_eq!(read_all(b"a \xff\xfe;"), r"<a><\xff\xfe>;");
    assert_eq!(read_all("\u{feff}events {"), r"<\xef\xbb\xbfevents>{");
}

#[test]
fn what_nginx_refuses_is_refused() {
    assert_eq!(read_all(";"), "unexpected \";\" in line 1");
    assert_eq!(read_all("\n{"), "unexpected \"{\" in line 2");
    assert_eq!(read_all("a }"), "unexpected \"}\" in line 1");
    assert_eq!(
        read_all("\na b"),
        "the file ends inside of a directive that begins in line 2"
    );
    assert_eq!(
        read_all("a 'b;\n"),
        "the file ends inside of a directive that begins in line 1"
    );
    let longest = format!("a {};", "x".repeat(4096));
    assert!(read_all(&longest).ends_with(">;"));
    let longer = format!("a {};", "x".repeat(4097));
    assert!(read_all(&longer).contains("longer than 4096"));
}

#[test]
fn lua_blocks_are_passed_over_and_lines_counted_on() {
    let text = "content_by_lua_block {\n local a = \"}\" -- }\n if x { }\n}\nlisten 80;";
    assert_eq!(read_all(text), "<content_by_lua_block>lua|<listen><80>;");
    let mut tokens = Tokens::new(text.as_bytes());
    tokens.read().expect("the block");
    let Ok(Token::Simple(words)) = tokens.read() else {
        panic!("a directive")
    };
    assert_eq!(words.line, 5);
}

#[test]
fn the_line_is_that_of_the_first_word() {
    let mut tokens = Tokens::new(b"# one\n\nserver\n  a;\nb;");
    for line in [3, 5] {
        let Ok(Token::Simple(words)) = tokens.read() else {
            panic!("a directive")
        };
        assert_eq!(words.line, line);
    }
}

proptest! {
    #[test]
    fn any_bytes_come_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_all(bytes);
    }

    #[test]
    fn any_text_of_special_characters_comes_to_an_end(
        text in "[a{};#\"'\\\\$()\n -]{0,60}(x_by_lua_block \\{)?[a{};#\"'\\\\$()\\[=\\]\n -]{0,60}",
    ) {
        let _ = read_all(text);
    }

    #[test]
    fn plain_words_are_read_as_they_stand(
        words in proptest::collection::vec("[a-z0-9:/._-]{1,12}", 1..6),
    ) {
        let text = format!("{} ;", words.join(" \n"));
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        prop_assert_eq!(read_all(text), format!("{expected};"));
    }

    #[test]
    fn quoted_words_are_read_as_they_stand(word in "[ -!#-\\[\\]-~\n]{0,40}") {
        let text = format!("a \"{word}\";");
        let mut tokens = Tokens::new(text.as_bytes());
        let Ok(Token::Simple(words)) = tokens.read() else { panic!("a directive") };
        prop_assert_eq!(&words.words[1], word.as_bytes());
    }
}
