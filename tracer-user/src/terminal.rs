//! What the reader's terminal can show: colour, and how wide a line may be.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Text is not wrapped to fewer columns than this: that helps nobody.
const NARROWEST: usize = 20;

/// Columns before the text of a labelled line.
const LABEL_COLUMNS: usize = 12;

/// The abilities of the place that text goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    pub colour: bool,
    /// Columns; null where lines are not wrapped.
    pub width: Option<usize>,
}

/// What a piece of text is, for those who can see colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Strong,
    Faint,
    Bad,
    Warning,
    Good,
    Command,
}

impl Terminal {
    /// A file or a pipe: no colour, no wrapping.
    pub const PLAIN: Terminal = Terminal {
        colour: false,
        width: None,
    };

    /// Looks at the terminal behind `output`, and at `NO_COLOR` and `TERM` of the environment.
    pub fn behind(output: &(impl AsFd + IsTerminal)) -> Terminal {
        if !output.is_terminal() {
            return Terminal::PLAIN;
        }
        let width = terminal_size::terminal_size_of(output.as_fd())
            .map(|(width, _)| usize::from(width.0))
            .filter(|width| *width > 0);
        Terminal {
            colour: wants_colour(
                std::env::var_os("NO_COLOR").as_deref(),
                std::env::var_os("TERM").as_deref(),
            ),
            width,
        }
    }

    /// The text in its tone, or as it is where there is no colour.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Bad => "1;31",
            Tone::Warning => "33",
            Tone::Good => "32",
            Tone::Command => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Appends lines of text with a label before the first, wrapped to the width.
    pub fn labelled<I>(&self, page: &mut String, label: &str, tone: Option<Tone>, lines: I)
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut label = label;
        for line in lines {
            for piece in self.wrapped(line.as_ref(), LABEL_COLUMNS) {
                self.labelled_piece(page, label, tone, &piece);
                label = "";
            }
        }
    }

    /// As [`Terminal::labelled`] without wrapping, so that a command can be copied whole.
    pub fn labelled_whole(
        &self,
        page: &mut String,
        label: &str,
        tone: Option<Tone>,
        lines: &[String],
    ) {
        let mut label = label;
        for line in lines {
            self.labelled_piece(page, label, tone, line);
            label = "";
        }
    }

    /// The text cut into lines that fit behind an indentation.
    pub fn wrapped(&self, text: &str, indentation: usize) -> Vec<String> {
        let Some(width) = self.width else {
            return vec![text.to_owned()];
        };
        let columns = width.saturating_sub(indentation).max(NARROWEST);
        let options = textwrap::Options::new(columns)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(text, options)
            .into_iter()
            .map(|line| line.into_owned())
            .collect()
    }

    fn labelled_piece(&self, page: &mut String, label: &str, tone: Option<Tone>, piece: &str) {
        let gap = LABEL_COLUMNS.saturating_sub(label.len());
        page.push_str("  ");
        page.push_str(&self.paint(Tone::Faint, label));
        page.push_str(&" ".repeat(gap.saturating_sub(2)));
        page.push_str(&match tone {
            Some(tone) => self.paint(tone, piece),
            None => piece.to_owned(),
        });
        page.push('\n');
    }
}

/// `NO_COLOR` counts when it is set to anything but nothing (no-color.org); a `dumb` or unknown
/// terminal shows escape sequences as rubbish.
fn wants_colour(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_and_dumb_terminals_are_respected() {
        let xterm = Some(OsStr::new("xterm-256color"));
        assert!(wants_colour(None, xterm));
        assert!(wants_colour(Some(OsStr::new("")), xterm));
        assert!(!wants_colour(Some(OsStr::new("1")), xterm));
        assert!(!wants_colour(None, Some(OsStr::new("dumb"))));
        assert!(!wants_colour(None, None));
    }

    #[test]
    fn long_lines_are_wrapped_behind_their_label() {
        let narrow = Terminal {
            colour: false,
            width: Some(44),
        };
        let mut page = String::new();
        narrow.labelled(
            &mut page,
            "because",
            None,
            ["one two three four five six seven"],
        );
        assert_eq!(
            page,
            "  because   one two three four five six\n            seven\n"
        );
    }

    #[test]
    fn an_absurdly_narrow_window_still_works() {
        let sliver = Terminal {
            colour: false,
            width: Some(1),
        };
        assert_eq!(sliver.wrapped("a b", 100), ["a b"]);
    }
}
