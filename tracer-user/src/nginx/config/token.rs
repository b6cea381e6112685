//! The words of a configuration file, exactly as `ngx_conf_read_token` (1.22 to 1.31) reads them.

use crate::nginx::config::lua;

/// `NGX_CONF_BUFFER`: no word is longer.
const LONGEST: usize = 4096;

/// What one read gives: the words up to `;`, `{` or `}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Words up to a `;`, never none.
    Simple(Words),
    /// Words up to a `{`, never none. The block follows, unless its text was Lua: that is passed
    /// over.
    Block { words: Words, lua: bool },
    /// A `}`.
    End,
    /// The end of the file.
    Done,
}

/// The words of one directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    pub words: Vec<Vec<u8>>,
    /// The line on which the first word begins.
    pub line: u32,
}

/// Why nginx would not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("unexpected \"{}\" in line {line}", char::from(*.byte))]
    Unexpected { byte: u8, line: u32 },
    #[error("a parameter longer than {LONGEST} bytes begins in line {line}")]
    TooLong { line: u32 },
    #[error("the file ends inside of a directive that begins in line {line}")]
    UnexpectedEnd { line: u32 },
}

/// Reads the words of one file.
#[derive(Debug)]
pub struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

/// What has been read of the current directive.
#[derive(Default)]
struct Reading {
    words: Vec<Vec<u8>>,
    first_line: u32,
    /// Where the current word begins.
    start: usize,
    /// The quote that the current word ends at.
    quote: Option<u8>,
    in_word: bool,
    /// Behind a closing quote.
    need_space: bool,
    /// Behind a `$`: a brace belongs to the word.
    variable: bool,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// The next directive's words, the end of a block, or the end of the file.
    pub fn read(&mut self) -> Result<Token, TokenError> {
        let mut reading = Reading::default();
        while let Some(byte) = self.take() {
            if reading.need_space && !is_space(byte) && !matches!(byte, b';' | b'{') {
                if byte != b')' {
                    return Err(self.unexpected(byte));
                }
                reading.need_space = false;
            }
            let ended = if reading.in_word {
                self.continue_word(&mut reading, byte)?
            } else {
                self.begin_word(&mut reading, byte)?
            };
            match ended {
                Some(b'}') => return Ok(Token::End),
                Some(b'{') => return Ok(self.block(reading)),
                Some(_) => return Ok(Token::Simple(reading.into_words())),
                None => {}
            }
        }
        if reading.words.is_empty() && !reading.in_word {
            return Ok(Token::Done);
        }
        Err(TokenError::UnexpectedEnd {
            line: reading.first_line,
        })
    }

    /// A byte that is not inside of a word. Gives the byte that ends the directive.
    fn begin_word(&mut self, reading: &mut Reading, byte: u8) -> Result<Option<u8>, TokenError> {
        if is_space(byte) {
            reading.need_space = false;
            return Ok(None);
        }
        match byte {
            b';' | b'{' if reading.words.is_empty() => return Err(self.unexpected(byte)),
            b'}' if !reading.words.is_empty() => return Err(self.unexpected(byte)),
            b';' | b'{' | b'}' => return Ok(Some(byte)),
            b'#' => {
                self.skip_comment();
                return Ok(None);
            }
            _ => {}
        }
        if reading.words.is_empty() {
            reading.first_line = self.line;
        }
        reading.in_word = true;
        reading.start = self.at - 1;
        match byte {
            b'\\' => self.skip_escaped(),
            b'"' | b'\'' => {
                reading.start = self.at;
                reading.quote = Some(byte);
            }
            _ => reading.variable = byte == b'$',
        }
        Ok(None)
    }

    /// A byte inside of a word. Gives the byte that ends the directive.
    fn continue_word(&mut self, reading: &mut Reading, byte: u8) -> Result<Option<u8>, TokenError> {
        if byte == b'{' && reading.variable {
            return Ok(None);
        }
        reading.variable = byte == b'$';
        if byte == b'\\' {
            self.skip_escaped();
            return Ok(None);
        }
        let found = match reading.quote {
            Some(quote) => byte == quote,
            None => is_space(byte) || byte == b';' || byte == b'{',
        };
        if !found {
            return Ok(None);
        }
        let word = &self.text[reading.start..self.at - 1];
        if word.len() > LONGEST {
            return Err(TokenError::TooLong { line: self.line });
        }
        reading.words.push(unescaped(word));
        reading.in_word = false;
        reading.need_space = reading.quote.take().is_some();
        Ok((!reading.need_space && !is_space(byte)).then_some(byte))
    }

    fn block(&mut self, reading: Reading) -> Token {
        let words = reading.into_words();
        let lua = words.words[0].ends_with(b"_by_lua_block");
        if lua {
            let end = lua::block_end(&self.text[self.at..]);
            let passed = &self.text[self.at..self.at + end];
            self.line += count_lines(passed);
            self.at += end;
        }
        Token::Block { words, lua }
    }

    fn take(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.at..];
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.at += end;
    }

    fn skip_escaped(&mut self) {
        self.take();
    }

    fn unexpected(&self, byte: u8) -> TokenError {
        TokenError::Unexpected {
            byte,
            line: self.line,
        }
    }
}

impl Reading {
    fn into_words(self) -> Words {
        Words {
            words: self.words,
            line: self.first_line,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn count_lines(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// `\"`, `\'` and `\\` lose the backslash, `\t`, `\r` and `\n` become what they mean, and any
/// other pair stays.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut bytes = word.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let meant = match (byte, bytes.peek()) {
            (b'\\', Some(quoted @ (b'"' | b'\'' | b'\\'))) => Some(*quoted),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        if meant.is_some() {
            bytes.next();
        }
        plain.push(meant.unwrap_or(byte));
    }
    plain
}

#[cfg(test)]
mod tests;
