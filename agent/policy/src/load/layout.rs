//! Where policies and annotations stand in a file, and whether Cedar may be shown it.
//!
//! Cedar's public API does not tell where an annotation stands. This scanner knows just enough of the language
//! (comments, strings, `;` that ends a policy, `@`) to tell; a test compares it with Cedar's own parser.
//! It also bounds what is handed on: Cedar's syntax trees are dropped recursively, so their depth must be bounded.

use std::ops::Range;

use super::{Finding, Rule, Severity};

/// Longest policy. Unit: bytes. Room for a list of 500 digests.
const POLICY_MAX: usize = 48 << 10;
/// Deepest nesting of brackets in a policy.
const NESTING_MAX: usize = 32;
/// Most operators in one policy, weighed by [`Kind::Operator`].
///
/// Chains become syntax trees as deep as the chain is long, and at the end of its stack Cedar's type checker lets a
/// policy pass unread (4.14): so the depth must stay within what checks and evaluates on a stack of 2 MiB.
/// Tried in `tests/hostile.rs`: `+` ends at 480 there, `.` at 900, `if` at 480, `||` beyond 900.
const OPERATORS_MAX: usize = 800;

/// The policies of one file.
#[derive(Debug, Default)]
pub struct Layout {
    pub statements: Vec<Statement>,
}

/// One policy, from its first token to its `;`.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    pub span: Range<usize>,
    /// The first token that belongs to no annotation: `permit` or `forbid`.
    pub head: Range<usize>,
    pub annotations: Vec<Place>,
    nesting: usize,
    operators: usize,
}

/// Where an annotation stands: `@key`.
#[derive(Clone, Debug)]
pub struct Place {
    pub key: String,
    pub span: Range<usize>,
}

impl Statement {
    /// The place of the annotation `key`.
    pub fn annotation(&self, key: &str) -> Option<&Place> {
        self.annotations.iter().find(|place| place.key == key)
    }
}

impl Layout {
    /// Scans `text`. Text after the last `;` counts as a policy if there is any.
    pub fn of(text: &str) -> Self {
        let mut layout = Self::default();
        let mut current: Option<Statement> = None;
        let mut depth = 0_usize;
        // Whether the tokens since the last `@` can still belong to the annotation: its key, then `("…")`.
        let mut in_annotation = false;
        for token in (Tokens { text, at: 0 }) {
            let statement = current.get_or_insert_with(|| Statement {
                span: token.span.clone(),
                head: token.span.clone(),
                ..Statement::default()
            });
            statement.span.end = token.span.end;
            match token.kind {
                Kind::End => {
                    layout.statements.extend(current.take());
                    (depth, in_annotation) = (0, false);
                    continue;
                }
                Kind::At => {
                    statement.annotations.push(Place { key: String::new(), span: token.span.clone() });
                    in_annotation = true;
                }
                Kind::Word(word) => match statement.annotations.last_mut() {
                    Some(place) if in_annotation && place.key.is_empty() => {
                        word.clone_into(&mut place.key);
                        place.span.end = token.span.end;
                    }
                    _ if in_annotation => {
                        statement.head = token.span.clone();
                        in_annotation = false;
                    }
                    _ if word == "if" => statement.operators += 4,
                    _ => {}
                },
                Kind::Open => {
                    depth += 1;
                    statement.nesting = statement.nesting.max(depth);
                }
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Operator(weight) => statement.operators += weight,
                Kind::Other => {}
            }
        }
        layout.statements.extend(current);
        layout
    }

    /// Whether a policy of the file is too long or too deep to be parsed; says so in `findings`.
    pub fn too_large(&self, file: &str, text: &str, findings: &mut Vec<Finding>) -> bool {
        let before = findings.len();
        for statement in &self.statements {
            let length = statement.span.len();
            let message = if length > POLICY_MAX {
                format!("the policy is {length} bytes long; {POLICY_MAX} are allowed")
            } else if statement.nesting > NESTING_MAX {
                format!("brackets nest {} deep in the policy; {NESTING_MAX} are allowed", statement.nesting)
            } else if statement.operators > OPERATORS_MAX {
                "the policy has too many operators".to_owned()
            } else {
                continue;
            };
            let finding = Finding::at(Severity::Error, Rule::TooLarge, file, text, statement.head.clone(), message);
            findings.push(finding.help("split it into several policies"));
        }
        findings.len() > before
    }

    /// The policy in which the byte `offset` stands.
    pub fn statement_at(&self, offset: usize) -> Option<&Statement> {
        self.statements.iter().find(|statement| statement.span.contains(&offset))
    }
}

enum Kind<'a> {
    At,
    Word(&'a str),
    Open,
    Close,
    /// With its weight.
    Operator(usize),
    End,
    Other,
}

struct Token<'a> {
    kind: Kind<'a>,
    span: Range<usize>,
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = rest.chars().next()?;
            let start = self.at;
            if first.is_whitespace() {
                self.at += first.len_utf8();
                continue;
            }
            if rest.starts_with("//") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            }
            let (kind, length) = match first {
                '"' => (Kind::Other, string_length(rest)),
                '@' => (Kind::At, 1),
                ';' => (Kind::End, 1),
                '(' | '[' | '{' => (Kind::Open, 1),
                ')' | ']' | '}' => (Kind::Close, 1),
                '+' | '-' | '*' | '!' => (Kind::Operator(3), 1),
                '.' => (Kind::Operator(2), 1),
                '<' | '>' | '=' | '|' | '&' => {
                    (Kind::Operator(1), rest.find(|c| !matches!(c, '<' | '>' | '=' | '|' | '&')).unwrap_or(rest.len()))
                }
                '_' | 'a'..='z' | 'A'..='Z' => {
                    let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                    (Kind::Word(rest.get(..end).unwrap_or("")), end)
                }
                other => (Kind::Other, other.len_utf8()),
            };
            self.at += length;
            return Some(Token { kind, span: start..self.at });
        }
    }
}

/// Length of the string literal that `rest` begins with; an unclosed one goes to the end.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Line and column of a byte offset, both from 1, the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text.get(..offset).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or("").chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_policies_annotations_and_heads() {
        let text = "// @x; no\n@id(\"a;@b\\\"\")\n@mask ( \"pii\" )\npermit (principal, action, resource);\n forbid(principal, action, resource)\nwhen { \"@\" == \";\" }; tail";
        let layout = Layout::of(text);
        let heads: Vec<&str> = layout.statements.iter().map(|s| &text[s.head.clone()]).collect();
        assert_eq!(heads, ["permit", "forbid", "tail"]);
        let keys: Vec<&str> = layout.statements[0].annotations.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["id", "mask"]);
        assert_eq!(&text[layout.statements[0].annotations[1].span.clone()], "@mask");
        assert_eq!(position(text, text.find("@mask").unwrap()), (3, 1));
        assert_eq!(layout.statement_at(text.find("when").unwrap()).unwrap().span, layout.statements[1].span);
    }

    #[test]
    fn an_annotation_without_a_value_does_not_swallow_the_head() {
        let text = "@id @mask permit(principal, action, resource);";
        let layout = Layout::of(text);
        assert_eq!(&text[layout.statements[0].head.clone()], "permit");
        assert_eq!(layout.statements[0].annotations.len(), 2);
    }

    #[test]
    fn columns_count_characters() {
        let text = "é\nüü@";
        assert_eq!(position(text, text.find('@').unwrap()), (2, 3));
        assert_eq!(position(text, 1), (1, 1));
        assert_eq!(position(text, 999), (2, 4));
    }
}
