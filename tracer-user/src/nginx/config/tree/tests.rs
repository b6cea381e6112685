use std::collections::HashMap;
use std::io;

use proptest::prelude::*;

use super::*;

/// Files by path.
struct Files(HashMap<Vec<u8>, Vec<u8>>);

impl Source for Files {
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let directory = directory.strip_suffix(b"/").unwrap_or(directory);
        let below = |path: &Vec<u8>| {
            let rest = path.strip_prefix(directory)?.strip_prefix(b"/")?;
            Some(rest.split(|byte| *byte == b'/').next()?.to_vec())
        };
        let mut names: Vec<Vec<u8>> = self.0.keys().filter_map(below).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn changed(&self, _: &[u8]) -> io::Result<i64> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

fn files(texts: &[(&str, &str)]) -> Files {
    let pair = |(path, text): &(&str, &str)| (path.as_bytes().to_vec(), text.as_bytes().to_vec());
    Files(texts.iter().map(pair).collect())
}

fn read(texts: &[(&str, &str)]) -> Tree {
    Tree::read(&files(texts), "/etc/nginx/nginx.conf", None)
}

/// `name@file:line` of every directive, those inside of a block in braces.
fn outline(directives: &[Directive]) -> String {
    let one = |directive: &Directive| {
        let name = String::from_utf8_lossy(directive.name()).into_owned();
        let file = directive.file.rsplit('/').next().unwrap_or_default();
        let inner = directive.block.as_deref().map(outline);
        let inner = inner.map(|inner| format!("{{{inner}}}"));
        format!(
            "{name}@{file}:{}{}",
            directive.line,
            inner.unwrap_or_default()
        )
    };
    directives.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn includes_take_the_place_of_their_line_in_sorted_order() {
    let tree = read(&[
        (
            "/etc/nginx/nginx.conf",
            "a;\nhttp {\n include conf.d/*.conf;\n include /srv/x.conf;\n}\nz;",
        ),
        ("/etc/nginx/conf.d/2.conf", "two;"),
        ("/etc/nginx/conf.d/10.conf", "\nten { in; }"),
        ("/etc/nginx/conf.d/.hidden.conf", "hidden;"),
        ("/etc/nginx/conf.d/old.bak", "old;"),
        ("/srv/x.conf", "x;"),
    ]);
    assert_eq!(
        outline(&tree.directives),
        "a@nginx.conf:1 http@nginx.conf:2{ten@10.conf:2{in@10.conf:2} two@2.conf:1 x@x.conf:1} \
         z@nginx.conf:6"
    );
    assert!(tree.problems.is_empty());
}

#[test]
fn a_relative_include_is_below_the_main_files_directory() {
    let tree = read(&[
        ("/etc/nginx/nginx.conf", "include conf.d/a.conf;"),
        ("/etc/nginx/conf.d/a.conf", "include snippets/b;"),
        ("/etc/nginx/snippets/b", "b;"),
    ]);
    assert_eq!(outline(&tree.directives), "b@b:1");
}

#[test]
fn patterns_may_stand_in_any_component() {
    let tree = read(&[
        ("/etc/nginx/nginx.conf", "include sites-*/[ab]/x.conf;"),
        ("/etc/nginx/sites-1/a/x.conf", "one;"),
        ("/etc/nginx/sites-2/b/x.conf", "two;"),
        ("/etc/nginx/sites-2/c/x.conf", "three;"),
    ]);
    assert_eq!(outline(&tree.directives), "one@x.conf:1 two@x.conf:1");
    assert!(tree.problems.is_empty());
}

#[test]
fn a_pattern_without_match_is_fine_and_a_missing_file_is_told() {
    let tree = read(&[(
        "/etc/nginx/nginx.conf",
        "include none/*;\ninclude none;\na;",
    )]);
    assert_eq!(outline(&tree.directives), "a@nginx.conf:3");
    assert_eq!(tree.problems.len(), 1);
    assert!(tree.problems[0].starts_with("/etc/nginx/none could not be read"));
}

#[test]
fn a_file_that_includes_itself_is_read_once() {
    let tree = read(&[
        ("/etc/nginx/nginx.conf", "a; include b;"),
        ("/etc/nginx/b", "b; include nginx.conf; include b;"),
    ]);
    assert_eq!(outline(&tree.directives), "a@nginx.conf:1 b@b:1");
    assert_eq!(tree.problems.len(), 2);
}

#[test]
fn includes_that_double_again_and_again_come_to_an_end() {
    let names: Vec<String> = (0..40).map(|level| format!("/etc/nginx/{level}")).collect();
    let texts: Vec<String> = (1..41)
        .map(|level| format!("include {level}; include {level};"))
        .collect();
    let mut all: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    all.push(("/etc/nginx/nginx.conf", "include 0;"));
    let tree = read(&all);
    assert!(!tree.problems.is_empty());
    assert!(tree.problems.len() <= MOST_PROBLEMS);
}

#[test]
fn an_error_ends_its_file_and_keeps_what_was_read() {
    let tree = read(&[
        (
            "/etc/nginx/nginx.conf",
            "a;\ninclude b;\nhttp {\n c;\n }}\n d;",
        ),
        ("/etc/nginx/b", "b { bb; ;"),
    ]);
    assert_eq!(
        outline(&tree.directives),
        "a@nginx.conf:1 b@b:1{bb@b:1} http@nginx.conf:3{c@nginx.conf:4}"
    );
    assert_eq!(tree.problems.len(), 2);
}

#[test]
fn a_block_that_does_not_end_is_told() {
    let tree = read(&[("/etc/nginx/nginx.conf", "a;\nhttp {\n b;\n")]);
    assert_eq!(
        outline(&tree.directives),
        "a@nginx.conf:1 http@nginx.conf:2{b@nginx.conf:3}"
    );
    assert_eq!(
        tree.problems,
        ["the block of line 2 of /etc/nginx/nginx.conf does not end"]
    );
}

#[test]
fn blocks_may_be_nested_too_deeply() {
    let text = "a {".repeat(10_000);
    let tree = read(&[("/etc/nginx/nginx.conf", &text)]);
    assert!(tree.problems[0].contains("nested too deeply"));
}

#[test]
fn directives_of_the_command_line_come_first() {
    let source = files(&[("/etc/nginx/nginx.conf", "a;")]);
    let tree = Tree::read(&source, "/etc/nginx/nginx.conf", Some("daemon off; b 1;"));
    assert_eq!(
        outline(&tree.directives),
        "daemon@-g:1 b@-g:1 a@nginx.conf:1"
    );
}

proptest! {
    #[test]
    fn any_files_come_to_an_end(
        main in proptest::collection::vec(any::<u8>(), 0..100),
        text in "(include [a-c*?/]{1,3};|[a-c]|[;{} \n\"'#]){0,30}",
    ) {
        let mut source = files(&[("/etc/nginx/a", &text), ("/etc/nginx/b", &text)]);
        source.0.insert(b"/etc/nginx/nginx.conf".to_vec(), main);
        let _ = Tree::read(&source, "/etc/nginx/nginx.conf", Some(&text));
    }
}
