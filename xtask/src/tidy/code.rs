//! Tells code from comments and literals, as far as rules about words need it.

/// A source file with everything blanked that is not code; lines stay where they are.
pub struct Code {
    /// Comments and the insides of literals are spaces.
    pub code: String,
    /// Each string literal with the line (from 1) on which it starts.
    pub literals: Vec<(usize, String)>,
}

/// Reads Rust source.
pub fn of(source: &str) -> Code {
    let letters: Vec<char> = source.chars().collect();
    let mut reader = Reader { letters, at: 0, line: 1, code: String::new(), literals: Vec::new() };
    reader.read();
    Code { code: reader.code, literals: reader.literals }
}

/// Lines (from 1) of `code` that hold `word` as a whole word.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.lines()
        .enumerate()
        .filter(|(_, line)| {
            line.match_indices(word).any(|(at, _)| {
                !line[..at].chars().next_back().is_some_and(is_word)
                    && !line[at + word.len()..].chars().next().is_some_and(is_word)
            })
        })
        .map(|(number, _)| number + 1)
        .collect()
}

struct Reader {
    letters: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    literals: Vec<(usize, String)>,
}

impl Reader {
    fn read(&mut self) {
        while let Some(letter) = self.peek(0) {
            match (letter, self.peek(1)) {
                ('/', Some('/')) => self.blank_until(|reader| reader.peek(0) == Some('\n')),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', Some('"' | '#')) if !self.in_word() => self.raw_string(),
                ('\'', _) => self.character(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn in_word(&self) -> bool {
        // `br"…"` is a literal too; any other letter before means a name that ends in r.
        self.code.chars().next_back().is_some_and(|last| (last.is_alphanumeric() && last != 'b') || last == '_')
    }

    fn keep(&mut self) {
        if let Some(letter) = self.peek(0) {
            self.code.push(letter);
            self.line += usize::from(letter == '\n');
            self.at += 1;
        }
    }

    fn blank(&mut self) {
        if let Some(letter) = self.peek(0) {
            self.code.push(if letter == '\n' { '\n' } else { ' ' });
            self.line += usize::from(letter == '\n');
            self.at += 1;
        }
    }

    fn blank_until(&mut self, end: impl Fn(&Reader) -> bool) {
        while self.peek(0).is_some() && !end(self) {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank();
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank();
                }
                (None, _) => return,
                _ => {}
            }
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.keep();
        while let Some(letter) = self.peek(0) {
            if letter == '"' {
                break;
            }
            if letter == '\\' {
                self.blank();
            }
            text.extend(self.peek(0));
            self.blank();
        }
        self.keep();
        self.literals.push((line, text));
    }

    fn raw_string(&mut self) {
        let hashes = self.letters[self.at + 1..].iter().take_while(|letter| **letter == '#').count();
        if self.peek(1 + hashes) != Some('"') {
            // `r#name`, a raw identifier.
            return self.keep();
        }
        let line = self.line;
        let mut text = String::new();
        (0..hashes + 2).for_each(|_| self.keep());
        let end =
            |reader: &Reader| reader.peek(0) == Some('"') && (1..=hashes).all(|ahead| reader.peek(ahead) == Some('#'));
        while self.peek(0).is_some() && !end(self) {
            text.extend(self.peek(0));
            self.blank();
        }
        (0..hashes + 1).for_each(|_| self.keep());
        self.literals.push((line, text));
    }

    /// `'x'` and `'\n'` are literals, `'a` is a lifetime.
    fn character(&mut self) {
        self.keep();
        if self.peek(0) == Some('\\') {
            self.blank();
            self.blank();
            self.blank_until(|reader| matches!(reader.peek(0), Some('\'' | '\n')));
            self.keep();
        } else if self.peek(1) == Some('\'') {
            self.blank();
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_literals_and_keeps_lines() {
        let source = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* nested */ unsafe */ unsafe {}\n\
                      let b = r#\"unsafe \" \"#; let c: &'a str = b'\"'; let r#unsafe = '\\''; xr\n";
        let read = of(source);
        assert_eq!(lines_with_word(&read.code, "unsafe"), [2, 3]);
        assert_eq!(read.code.matches("unsafe").count(), 2);
        assert_eq!(read.literals, [(1, "unsafe \" x".to_owned()), (3, "unsafe \" ".to_owned())]);
        assert_eq!(read.code.lines().count(), source.lines().count());
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(lines_with_word("unsafe_code\nan unsafe\nunsafe{", "unsafe"), [2, 3]);
    }
}
