//! Finds the end of a head or trailer section as bytes arrive, and stops at the first line that does not end in CRLF.
//!
//! Looks at each byte once, however the stream was cut: a bare LF is refused when it comes, not when the head is complete
//! (it never would be, and the client would wait for an answer).

use crate::HeadError;
use crate::limits::EMPTY_LINES_MAX;

/// Where in the lines of one section the stream stands.
#[derive(Debug)]
pub(super) struct LineScan {
    /// The last byte was a CR, whose LF is due.
    after_cr: bool,
    /// The current line has no byte yet.
    line_is_empty: bool,
    /// An empty line ends the section; before, it is one to skip.
    begun: bool,
    /// Empty lines skipped.
    skipped: usize,
}

impl LineScan {
    /// At the start of a request head, which empty lines may come before.
    pub fn head() -> Self {
        Self { after_cr: false, line_is_empty: true, begun: false, skipped: 0 }
    }

    /// At the start of a trailer section, which an empty line ends.
    pub fn trailers() -> Self {
        Self { begun: true, ..Self::head() }
    }

    /// Whether nothing but empty lines came.
    pub fn is_idle(&self) -> bool {
        !self.begun && self.line_is_empty && !self.after_cr
    }

    /// Takes the next bytes; gives the offset behind the empty line that ends the section, if it is among them.
    pub fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, HeadError> {
        let mut at: usize = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(&first) = rest.first() else { return Ok(None) };
            if self.after_cr {
                if first != b'\n' {
                    return Err(HeadError::BareCr);
                }
                at = at.saturating_add(1);
                self.after_cr = false;
                if self.end_line()? {
                    return Ok(Some(at));
                }
                continue;
            }
            match memchr::memchr2(b'\r', b'\n', rest) {
                None => {
                    self.line_is_empty = false;
                    return Ok(None);
                }
                Some(offset) => {
                    self.line_is_empty &= offset == 0;
                    if rest.get(offset) == Some(&b'\n') {
                        return Err(HeadError::BareLf);
                    }
                    self.after_cr = true;
                    at = at.saturating_add(offset).saturating_add(1);
                }
            }
        }
    }

    /// Whether the line that just ended ends the section.
    fn end_line(&mut self) -> Result<bool, HeadError> {
        if self.line_is_empty && self.begun {
            return Ok(true);
        }
        if self.line_is_empty {
            self.skipped = self.skipped.saturating_add(1);
            if self.skipped > EMPTY_LINES_MAX {
                return Err(HeadError::EmptyLines);
            }
        }
        self.begun |= !self.line_is_empty;
        self.line_is_empty = true;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_at_every_split() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for split in 0..text.len() {
            let mut scan = LineScan::head();
            let (left, right) = text.split_at(split);
            let found = scan.scan(left).unwrap().or_else(|| scan.scan(right).unwrap().map(|n| n + split));
            assert_eq!(found, Some(text.len() - 4), "{split}");
        }
    }

    #[test]
    fn stops_at_the_first_odd_line_end() {
        for (text, error) in [
            (&b"\n"[..], HeadError::BareLf),
            (b"a\nb", HeadError::BareLf),
            (b"a\r\n\n", HeadError::BareLf),
            (b"a\rb", HeadError::BareCr),
            (b"a\r\r\n", HeadError::BareCr),
            (b"\r\n\r\n", HeadError::EmptyLines),
        ] {
            assert_eq!(LineScan::head().scan(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn trailers_may_be_empty() {
        assert_eq!(LineScan::trailers().scan(b"\r\nGET"), Ok(Some(2)));
        assert_eq!(LineScan::trailers().scan(b"a: b\r\n\r\n"), Ok(Some(8)));
    }
}
