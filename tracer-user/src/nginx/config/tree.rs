//! A configuration with its includes in place.

use std::sync::Arc;

use crate::nginx::config::glob;
use crate::nginx::config::source::Source;
use crate::nginx::config::token::{Token, Tokens};

const MOST_FILES: usize = 4096;
const MOST_BYTES: usize = 16 * 1024 * 1024;
const MOST_DIRECTIVES: usize = 400_000;
const MOST_PATHS: usize = 16 * 1024;
/// Blocks and includes together: nginx itself has no limit, its stack does.
const DEEPEST: usize = 100;
const MOST_PROBLEMS: usize = 64;

/// A directive with its place and, for a block, what stands inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its name and its arguments.
    pub words: Vec<Vec<u8>>,
    pub file: Arc<str>,
    pub line: u32,
    pub block: Option<Vec<Directive>>,
}

/// A whole configuration, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub directives: Vec<Directive>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
    /// When one of the files changed last, see [`Source::changed`].
    pub changed: Option<i64>,
}

impl Directive {
    pub fn name(&self) -> &[u8] {
        self.words.first().map_or(b"", Vec::as_slice)
    }

    /// The arguments behind the name.
    pub fn arguments(&self) -> &[Vec<u8>] {
        self.words.get(1..).unwrap_or_default()
    }
}

impl Tree {
    /// Reads the main file and what it includes, behind the directives of `-g`. Where nginx would
    /// stop with an error, reading goes on with the next file.
    pub fn read(source: &dyn Source, main: &str, directives: Option<&str>) -> Self {
        let prefix = main.rfind('/').map_or("", |end| &main[..=end]);
        let mut reader = Reader {
            source,
            prefix: prefix.as_bytes(),
            including: Vec::new(),
            depth: 0,
            files: 0,
            bytes: 0,
            directives: 0,
            problems: Vec::new(),
            changed: None,
        };
        let mut read = Vec::new();
        if let Some(directives) = directives {
            reader.text(directives.as_bytes(), "-g", &mut read);
        }
        reader.file(main.as_bytes(), &mut read);
        Self {
            directives: read,
            problems: reader.problems,
            changed: reader.changed,
        }
    }
}

struct Reader<'a> {
    source: &'a dyn Source,
    /// The directory of the main file: every relative include is below it
    /// (`ngx_process_options`).
    prefix: &'a [u8],
    /// The files whose include we are in.
    including: Vec<Vec<u8>>,
    depth: usize,
    files: usize,
    bytes: usize,
    directives: usize,
    problems: Vec<String>,
    changed: Option<i64>,
}

/// How a block ended.
#[derive(PartialEq)]
enum Ended {
    AtBrace,
    AtEndOfFile,
    /// The rest of the file can't be read.
    Badly,
}

impl Reader<'_> {
    fn file(&mut self, path: &[u8], read: &mut Vec<Directive>) {
        let name = String::from_utf8_lossy(path).into_owned();
        if self.including.iter().any(|including| including == path) {
            return self.problem(format!("{name} includes itself"));
        }
        if self.files >= MOST_FILES || self.bytes >= MOST_BYTES {
            return self.problem(format!(
                "{name} was not read: the configuration is too large"
            ));
        }
        let text = match self.source.read(path) {
            Ok(text) => text,
            Err(error) => return self.problem(format!("{name} could not be read: {error}")),
        };
        self.files += 1;
        self.changed = self.changed.max(self.source.changed(path).ok());
        self.bytes = self.bytes.saturating_add(text.len());
        self.including.push(path.to_vec());
        self.text(&text, &name, read);
        self.including.pop();
    }

    fn text(&mut self, text: &[u8], name: &str, read: &mut Vec<Directive>) {
        let file: Arc<str> = name.into();
        let mut tokens = Tokens::new(text);
        if self.block(&mut tokens, &file, read) == Ended::AtBrace {
            self.problem(format!("unexpected \"}}\" in {name}"));
        }
    }

    fn block(&mut self, tokens: &mut Tokens, file: &Arc<str>, read: &mut Vec<Directive>) -> Ended {
        if self.depth >= DEEPEST {
            self.problem(format!("{file} was not read to its end: nested too deeply"));
            return Ended::Badly;
        }
        self.depth += 1;
        let ended = self.directives_of(tokens, file, read);
        self.depth -= 1;
        ended
    }

    fn directives_of(
        &mut self,
        tokens: &mut Tokens,
        file: &Arc<str>,
        read: &mut Vec<Directive>,
    ) -> Ended {
        loop {
            let (words, is_block) = match tokens.read() {
                Ok(Token::Simple(words)) => (words, false),
                Ok(Token::Block { words, lua }) => (words, !lua),
                Ok(Token::End) => return Ended::AtBrace,
                Ok(Token::Done) => return Ended::AtEndOfFile,
                Err(error) => {
                    self.problem(format!("{error} of {file}"));
                    return Ended::Badly;
                }
            };
            self.directives += 1;
            if self.directives > MOST_DIRECTIVES {
                self.problem(format!("{file} was not read to its end: too much in it"));
                return Ended::Badly;
            }
            let mut directive = Directive {
                words: words.words,
                file: Arc::clone(file),
                line: words.line,
                block: None,
            };
            if let (b"include", [name], false) = (directive.name(), directive.arguments(), is_block)
            {
                self.include(name, read);
                continue;
            }
            let mut complete = true;
            if is_block {
                let inner = directive.block.insert(Vec::new());
                let ended = self.block(tokens, file, inner);
                complete = self.ended_well(ended, file, directive.line);
            }
            read.push(directive);
            if !complete {
                return Ended::Badly;
            }
        }
    }

    fn ended_well(&mut self, ended: Ended, file: &str, line: u32) -> bool {
        if ended == Ended::AtEndOfFile {
            self.problem(format!("the block of line {line} of {file} does not end"));
        }
        ended == Ended::AtBrace
    }

    fn include(&mut self, name: &[u8], read: &mut Vec<Directive>) {
        let path = if name.starts_with(b"/") {
            name.to_vec()
        } else {
            [self.prefix, name].concat()
        };
        if glob::is_pattern(&path) {
            for path in self.expand(&path) {
                self.file(&path, read);
            }
        } else {
            self.file(&path, read);
        }
    }

    /// Every path that matches, in the order of glob(3).
    fn expand(&mut self, pattern: &[u8]) -> Vec<Vec<u8>> {
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        for (index, component) in pattern.split(|byte| *byte == b'/').enumerate() {
            let mut next = Vec::new();
            for path in found {
                let below = if index == 0 {
                    path
                } else {
                    [&path[..], b"/"].concat()
                };
                if !glob::is_pattern(component) {
                    next.push([&below[..], component].concat());
                    continue;
                }
                let names = self.source.names(&below).unwrap_or_default();
                let matching = names.iter().filter(|name| glob::matches(component, name));
                next.extend(matching.map(|name| [&below[..], name].concat()));
            }
            next.truncate(MOST_PATHS);
            found = next;
        }
        found.sort();
        found
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests;
