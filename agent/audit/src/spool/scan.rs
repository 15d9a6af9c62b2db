//! Reads the entries of a segment one after the other, through one buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use callgate_seal::Hash;

use super::format::{ENTRY_HEAD, EntryHead, HEADER_MAX, Header};

/// How much is read at a time. Unit: bytes.
const WINDOW: usize = 256 * 1024;

/// A place in a segment.
#[derive(Debug)]
pub(crate) struct Scan {
    file: File,
    /// Where `window` starts in the file.
    start: u64,
    window: Vec<u8>,
    /// Next entry, within `window`.
    at: usize,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Step<'scan> {
    /// A whole entry with the right checksum.
    Entry { seq: u64, hash: Hash, body: &'scan [u8] },
    /// Nothing: the file ends here.
    End,
    /// Bytes that are no whole entry.
    Torn,
}

impl Scan {
    /// Reads the header; the first step gives the first entry.
    ///
    /// # Errors
    /// The outer error is the file system's; the inner one says why there is no header.
    pub fn open(file: File) -> io::Result<Result<(Header, Self), &'static str>> {
        let mut bytes = vec![0; HEADER_MAX];
        let len = read_full(&file, &mut bytes, 0)?;
        Ok(Header::decode(&bytes[..len]).map(|(header, len)| {
            let scan = Self { file, start: len as u64, window: Vec::new(), at: 0 };
            (header, scan)
        }))
    }

    /// Offset of the next entry in the file. Unit: bytes.
    pub fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Forgets what was read ahead: it may have been incomplete when it was read.
    pub fn refresh(&mut self) {
        self.start = self.offset();
        self.window.clear();
        self.at = 0;
    }

    /// Length of the next entry's body, if there is one.
    pub fn peek_len(&mut self) -> io::Result<Option<usize>> {
        self.ensure(ENTRY_HEAD)?;
        let head = self.window[self.at..].first_chunk::<ENTRY_HEAD>().and_then(EntryHead::decode);
        Ok(head.map(|head| head.body_len))
    }

    /// Reads the next entry and goes past it. At an end or a torn entry it stays.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let have = self.ensure(ENTRY_HEAD)?;
        if have == 0 {
            return Ok(Step::End);
        }
        let Some(head) = self.window[self.at..].first_chunk::<ENTRY_HEAD>().and_then(EntryHead::decode) else {
            return Ok(Step::Torn);
        };
        let len = ENTRY_HEAD + head.body_len;
        if self.ensure(len)? < len {
            return Ok(Step::Torn);
        }
        let entry = &self.window[self.at..self.at + len];
        if !head.fits(entry) {
            return Ok(Step::Torn);
        }
        self.at += len;
        Ok(Step::Entry { seq: head.seq, hash: head.hash, body: &entry[ENTRY_HEAD..] })
    }

    /// Reads until `len` bytes are in the window, or the file ends; says how many are.
    fn ensure(&mut self, len: usize) -> io::Result<usize> {
        if self.window.len() - self.at < len {
            self.window.drain(..self.at);
            self.start += self.at as u64;
            self.at = 0;
            let have = self.window.len();
            self.window.resize(have.max(len.max(WINDOW)), 0);
            let got = read_full(&self.file, &mut self.window[have..], self.start + have as u64)?;
            self.window.truncate(have + got);
        }
        Ok(self.window.len() - self.at)
    }
}

/// Reads until `buffer` is full or the file ends; says how much was read.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
