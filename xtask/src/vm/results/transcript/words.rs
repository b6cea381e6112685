//! The words of a test that failed, down to the line that says the most.

/// How much of a line is kept.
const LONGEST: usize = 300;

/// A failed test whose words come now.
#[derive(Debug, Default)]
pub struct Words(Next);

/// What the next line is worth.
#[derive(Debug, Default, PartialEq, Eq)]
enum Next {
    /// It is the first.
    #[default]
    Message,
    /// Nothing, but for the heading of causes.
    Rest,
    /// It is the first cause.
    Cause,
    /// It is worth something where it is one more cause.
    FurtherCause,
}

impl Words {
    /// What the line says, where it says more about the failure than those before it. The
    /// causes of an error stand behind a heading, with numbers where they are more than one.
    pub fn listen(&mut self, line: &str) -> Option<String> {
        let said = self.worth(line)?;
        let said = said.strip_prefix("Error: ").unwrap_or(said);
        Some(said.chars().take(LONGEST).collect())
    }

    fn worth<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if line == "Caused by:" {
            self.0 = Next::Cause;
            return None;
        }
        let numbered = || {
            let (number, cause) = line.strip_prefix("    ")?.split_once(": ")?;
            number.parse::<u8>().ok().map(|_| cause)
        };
        match self.0 {
            Next::Message if line.is_empty() || line.starts_with("thread '") => None,
            Next::Message => {
                self.0 = Next::Rest;
                Some(line)
            }
            Next::Rest => None,
            Next::Cause => {
                self.0 = Next::FurtherCause;
                Some(numbered().unwrap_or(line.trim()))
            }
            Next::FurtherCause => numbered(),
        }
    }
}
