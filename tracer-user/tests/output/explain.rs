use whyrefused::escape::is_unsafe;
use whyrefused::explain::{SECTIONS, list, meaning, page, shown};
use whyrefused::terminal::Terminal;
use whyrefused::verdict::Code;

#[test]
fn every_page_has_its_title_its_meaning_and_all_sections_with_text() {
    for code in Code::ALL {
        let page = page(code);
        assert!(page.starts_with(&format!("# {code}\n\n")), "{code}: title");
        assert!(!meaning(code).is_empty(), "{code}: meaning");
        let mut parts = page.split("\n## ").skip(1);
        for section in SECTIONS {
            let part = parts.next().unwrap_or_default();
            let text = part.strip_prefix(section);
            assert!(
                text.is_some_and(|text| text.len() > 60),
                "{code}: {section}"
            );
        }
        assert_eq!(parts.next(), None, "{code}: one section too many");
    }
}

#[test]
fn pages_refer_only_to_codes_that_exist_and_fit_a_screen() {
    for code in Code::ALL {
        let lines = page(code).lines().count();
        assert!((25..=70).contains(&lines), "{code}: {lines} lines");
        let fences = page(code)
            .lines()
            .filter(|line| line.starts_with("```"))
            .count();
        assert_eq!(fences % 2, 0, "{code}: a block of commands is left open");
        assert!(
            !page(code)
                .chars()
                .any(|found| is_unsafe(found) && found != '\n'),
            "{code}"
        );
        for word in first_words_of_look_alikes(code) {
            assert!(word.parse::<Code>().is_ok(), "{code} refers to {word}");
        }
    }
}

/// Words in backquotes at the start of the list of look-alikes, such as "- `no-listener`: ...".
fn first_words_of_look_alikes(code: Code) -> impl Iterator<Item = &'static str> {
    let (_, rest) = page(code).split_once("## What looks alike").unwrap();
    let (section, _) = rest.split_once("## ").unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
        .map(|(word, _)| word)
}

#[test]
fn the_list_of_codes_is_this() {
    insta::assert_snapshot!(list(&Terminal::PLAIN));
}

#[test]
fn a_page_is_shown_like_this() {
    insta::assert_snapshot!("shown_plain", shown(Code::NoListener, &Terminal::PLAIN));
    let colour = Terminal {
        colour: true,
        width: Some(80),
    };
    let text = shown(Code::BoundNotListening, &colour).replace('\x1b', "␛");
    insta::assert_snapshot!("shown_colour", text);
}
