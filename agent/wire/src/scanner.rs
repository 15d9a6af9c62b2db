//! Follows a client's byte stream and lets through only what was checked.
//!
//! Stands between the socket and hyper's server: hyper never sees a byte of a head that [`Head`] did not pass, and
//! never a byte behind an error. Changes nothing that passes. Does no I/O and decides nothing.
//!
//! Heads, chunk-size lines, line ends behind chunks and trailers are held back until complete; body data passes as it comes.
//! What is released, and the error, do not depend on how the stream was cut.

mod chunk;
mod lines;

use crate::head::check_trailers;
use crate::limits::{CHUNK_EXTENSIONS_MAX, CHUNK_LINE_MAX, HEAD_MAX, TRAILERS_MAX, UPGRADE_HELD_MAX};
use crate::{Framing, Head, HeadError, HeadRules};
use lines::LineScan;

/// Largest buffer that an idle scanner keeps. Unit: bytes.
/// Source: ours; 10,000 idle connections then hold 40 MB at most.
const KEEP_CAPACITY: usize = 4 * 1024;

/// What comes next on the stream.
#[derive(Debug)]
enum State {
    Head(LineScan),
    /// Body data by length, or of a chunk: so many bytes are due.
    Data {
        left: u64,
        chunked: bool,
    },
    ChunkLine,
    ChunkEnd,
    Trailers(LineScan),
    /// The answer to a request to upgrade is awaited.
    Upgrade,
    /// Another protocol: everything passes.
    Tunnel,
    /// Nothing may follow: everything is dropped.
    Closed,
    Failed(HeadError),
}

/// An incremental scanner of the requests on one connection.
///
/// Holds at most [`HEAD_MAX`] bytes.
///
/// ```
/// use callgate_wire::{HeadError, HeadRules, HeadScanner};
/// let mut scanner = HeadScanner::new(HeadRules { tls: false, default_port: 80 });
/// let (mut out, mut heads) = (Vec::new(), Vec::new());
/// scanner.push(b"GET /a HTTP/1.1\r\nHost: api.exa", &mut out, &mut heads)?;
/// assert!(out.is_empty());
/// let error = scanner.push(b"mple\r\n\r\nGET /b HTTP/1.1\nHost: api.example\n\n", &mut out, &mut heads);
/// assert_eq!(error, Err(HeadError::BareLf));
/// assert_eq!(out, b"GET /a HTTP/1.1\r\nHost: api.example\r\n\r\n");
/// assert_eq!(heads[0].path.as_str(), "/a");
/// # Ok::<(), HeadError>(())
/// ```
#[derive(Debug)]
pub struct HeadScanner {
    rules: HeadRules,
    state: State,
    /// Bytes of an element that is not complete.
    held: Vec<u8>,
    /// Whether another request may follow the current one.
    keep_alive: bool,
    /// Bytes of chunk extensions in the current body.
    extensions: usize,
    /// Whether the fault lies in a body.
    fault_in_body: bool,
    /// Where the current message starts in `out` and `heads`, if its head was released in this push.
    mark: Option<(usize, usize)>,
}

impl HeadScanner {
    /// A scanner at the start of a connection.
    #[must_use]
    pub fn new(rules: HeadRules) -> Self {
        let state = State::Head(LineScan::head());
        Self { rules, state, held: Vec::new(), keep_alive: true, extensions: 0, fault_in_body: false, mark: None }
    }

    /// Takes bytes that the client sent; appends to `out` what may pass, and to `heads` each head that ended in it.
    ///
    /// # Errors
    /// The first check that failed; what was appended before it has passed (see [`withdraw`](Self::withdraw)).
    /// Every later push gives the same error and lets nothing through.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>, heads: &mut Vec<Head>) -> Result<(), HeadError> {
        self.mark = None;
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        while !input.is_empty() {
            match self.step(input, out, heads) {
                Ok(taken) => input = input.get(taken..).unwrap_or_default(),
                Err(error) => {
                    self.fault_in_body = self.in_body();
                    self.state = State::Failed(error);
                    self.held = Vec::new();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// How many bytes at the start of `input` are body data or tunnel: these have passed and need not be pushed.
    /// The rest must be. For callers that read straight into the reader's buffer.
    pub fn pass(&mut self, input: &[u8]) -> usize {
        match self.state {
            State::Data { left, .. } => self.take_data(left, input.len()),
            State::Tunnel => input.len(),
            _ => 0,
        }
    }

    /// After an error in a body: takes back from `out` and `heads` the message that it is in, if its head was released
    /// in the same push and both are as that push left them. True if something was taken back; false if the reader
    /// has seen the head already, or there is none.
    pub fn withdraw(&mut self, out: &mut Vec<u8>, heads: &mut Vec<Head>) -> bool {
        let Some((start, head)) = self.mark.take().filter(|_| matches!(self.state, State::Failed(_))) else {
            return false;
        };
        out.truncate(start);
        heads.truncate(head);
        true
    }

    /// Whether the stream stands, or failed, within a body: the head of that message was released.
    #[must_use]
    pub fn in_body(&self) -> bool {
        match &self.state {
            State::Data { .. } | State::ChunkLine | State::ChunkEnd | State::Trailers(_) => true,
            State::Failed(_) => self.fault_in_body,
            State::Head(_) | State::Upgrade | State::Tunnel | State::Closed => false,
        }
    }

    /// Whether a request to upgrade waits for its answer; what the client sends is held, up to
    /// [`UPGRADE_HELD_MAX`].
    #[must_use]
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.state, State::Upgrade)
    }

    /// The server agreed to switch: what was held goes to `out`, and everything later passes unread.
    /// False, and nothing changes, if no request to upgrade waits.
    pub fn accept_upgrade(&mut self, out: &mut Vec<u8>) -> bool {
        let waits = self.awaits_upgrade();
        if waits {
            out.append(&mut self.held);
            self.held = Vec::new();
            self.state = State::Tunnel;
        }
        waits
    }

    /// The server answered otherwise: what was held is read as the next requests. Nothing happens if no request to
    /// upgrade waits. To be called before the answer goes to the client.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn refuse_upgrade(&mut self, out: &mut Vec<u8>, heads: &mut Vec<Head>) -> Result<(), HeadError> {
        if !self.awaits_upgrade() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.next_message();
        self.push(&held, out, heads)
    }

    /// Whether the stream stands between messages and nothing is held but an empty line.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Head(lines) => lines.is_idle(),
            State::Tunnel | State::Closed => true,
            _ => false,
        }
    }

    /// The client ended its stream.
    ///
    /// # Errors
    /// [`HeadError::Truncated`] if it ended within a message; an earlier error.
    pub fn finish(&self) -> Result<(), HeadError> {
        match &self.state {
            State::Failed(error) => Err(*error),
            State::Upgrade => Ok(()),
            _ if self.is_idle() => Ok(()),
            _ => Err(HeadError::Truncated),
        }
    }

    /// Takes at least one byte of `input`, which has one.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, heads: &mut Vec<Head>) -> Result<usize, HeadError> {
        match &mut self.state {
            State::Head(lines) => match gather(&mut self.held, input, HEAD_MAX, HeadError::HeadTooLarge, lines)? {
                Some(taken) => {
                    let bytes = complete(&mut self.held, input, taken);
                    let head = Head::read(bytes, &self.rules)?;
                    self.mark = Some((out.len(), heads.len()));
                    out.extend_from_slice(bytes);
                    self.begin_message(&head);
                    heads.push(head);
                    Ok(taken)
                }
                None => Ok(input.len()),
            },
            State::Data { left, .. } => {
                let left = *left;
                let taken = self.take_data(left, input.len());
                out.extend_from_slice(input.get(..taken).unwrap_or_default());
                Ok(taken)
            }
            State::ChunkLine => self.step_chunk_line(input, out),
            State::ChunkEnd => {
                let due = if self.held.is_empty() { b'\r' } else { b'\n' };
                if input.first() != Some(&due) {
                    return Err(HeadError::ChunkEnd);
                }
                self.held.push(due);
                if due == b'\n' {
                    out.append(&mut self.held);
                    self.state = State::ChunkLine;
                }
                Ok(1)
            }
            State::Trailers(lines) => {
                match gather(&mut self.held, input, TRAILERS_MAX, HeadError::TrailersTooLarge, lines)? {
                    Some(taken) => {
                        let bytes = complete(&mut self.held, input, taken);
                        check_trailers(bytes)?;
                        out.extend_from_slice(bytes);
                        self.next_message();
                        Ok(taken)
                    }
                    None => Ok(input.len()),
                }
            }
            State::Upgrade => {
                if self.held.len().saturating_add(input.len()) > UPGRADE_HELD_MAX {
                    return Err(HeadError::EarlyBytes);
                }
                self.held.extend_from_slice(input);
                Ok(input.len())
            }
            State::Tunnel => {
                out.extend_from_slice(input);
                Ok(input.len())
            }
            State::Closed => Ok(input.len()),
            State::Failed(error) => Err(*error),
        }
    }

    fn step_chunk_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, HeadError> {
        let room = CHUNK_LINE_MAX.saturating_sub(self.held.len());
        let window = input.get(..room).unwrap_or(input);
        let Some(end) = memchr::memchr(b'\n', window) else {
            self.held.extend_from_slice(window);
            return if window.len() < input.len() { Err(chunk::too_long(&self.held)) } else { Ok(window.len()) };
        };
        let taken = end.saturating_add(1);
        let bytes = complete(&mut self.held, input, taken);
        let line = chunk::read_line(bytes)?;
        self.extensions = self.extensions.saturating_add(line.extensions);
        if self.extensions > CHUNK_EXTENSIONS_MAX {
            return Err(HeadError::ChunkExtension);
        }
        out.extend_from_slice(bytes);
        self.held.clear();
        self.state = match line.size {
            0 => State::Trailers(LineScan::trailers()),
            left => State::Data { left, chunked: true },
        };
        Ok(taken)
    }

    /// Counts body data off; gives how many of so many bytes it is.
    fn take_data(&mut self, left: u64, available: usize) -> usize {
        let taken = usize::try_from(left).map_or(available, |left| left.min(available));
        let left = left.saturating_sub(taken as u64);
        match &mut self.state {
            State::Data { left: due, .. } if left > 0 => *due = left,
            State::Data { chunked: true, .. } => self.state = State::ChunkEnd,
            _ => self.next_message(),
        }
        taken
    }

    fn begin_message(&mut self, head: &Head) {
        self.keep_alive = head.keep_alive;
        self.extensions = 0;
        self.release_held();
        match head.framing {
            _ if head.upgrade.is_some() => self.state = State::Upgrade,
            Framing::None | Framing::Length(0) => self.next_message(),
            Framing::Length(left) => self.state = State::Data { left, chunked: false },
            Framing::Chunked => self.state = State::ChunkLine,
        }
    }

    fn next_message(&mut self) {
        self.mark = None;
        self.release_held();
        self.state = if self.keep_alive { State::Head(LineScan::head()) } else { State::Closed };
    }

    fn release_held(&mut self) {
        self.held.clear();
        self.held.shrink_to(KEEP_CAPACITY);
    }
}

/// Looks for the end of a section of at most `max` bytes: the length of its last part in `input`, or none,
/// and then all of `input` is held.
fn gather(
    held: &mut Vec<u8>,
    input: &[u8],
    max: usize,
    too_large: HeadError,
    lines: &mut LineScan,
) -> Result<Option<usize>, HeadError> {
    let window = input.get(..max.saturating_sub(held.len())).unwrap_or(input);
    let end = lines.scan(window)?;
    if end.is_none() {
        if window.len() < input.len() {
            return Err(too_large);
        }
        held.extend_from_slice(window);
    }
    Ok(end)
}

/// The whole of an element whose last part is the first `taken` bytes of `input`; copies nothing if that is all of it.
fn complete<'a>(held: &'a mut Vec<u8>, input: &'a [u8], taken: usize) -> &'a [u8] {
    let part = input.get(..taken).unwrap_or(input);
    if held.is_empty() {
        return part;
    }
    held.extend_from_slice(part);
    held
}

#[cfg(test)]
mod tests;
