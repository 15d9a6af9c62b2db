//! Segments of a spool by a second hand: written, read and repaired from the table in their documentation alone.

use callgate_seal::{Hash, genesis, seal};

/// The stream of the seeds, and the one that recovery asks for.
pub const STREAM: &str = "node/fuzz";

/// Parts of a header: magic, version, first seq, hash before, length of the name. Unit: bytes.
const HEADER_FIXED: usize = 8 + 4 + 8 + Hash::LEN + 4;
const CRC: usize = 4;
const NAME_MAX: usize = 256;
/// Parts of an entry: length, CRC, seq, hash. Unit: bytes.
const ENTRY_HEAD: usize = 4 + CRC + 8 + Hash::LEN;
const BODY_MAX: usize = 1 << 20;

/// A segment that holds `bodies`, sealed from `first_seq` on.
#[must_use]
pub fn segment(first_seq: u64, prev: Hash, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = header(first_seq, prev);
    let mut prev = prev;
    for (body, seq) in bodies.iter().zip(first_seq..) {
        prev = seal(&prev, seq, body);
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; CRC]);
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(prev.as_bytes());
        out.extend_from_slice(body);
    }
    repaired(&out, false)
}

/// A header, its checksum still to be made.
fn header(first_seq: u64, prev: Hash) -> Vec<u8> {
    let name = (STREAM.len() as u32).to_le_bytes();
    let parts = [b"CGSPOOL\n", &1_u32.to_le_bytes()[..], &first_seq.to_le_bytes(), prev.as_bytes(), &name];
    [&parts.concat()[..], STREAM.as_bytes(), &[0; CRC]].concat()
}

/// The hash before the first record of the stream of the seeds.
#[must_use]
pub fn start() -> Hash {
    genesis(STREAM)
}

/// What a segment says, read without regard for speed.
#[derive(Debug)]
pub struct Plain<'a> {
    /// Its first seq, by the header.
    pub first_seq: u64,
    /// The hash before it.
    pub prev: Hash,
    /// The stream.
    pub stream: &'a str,
    /// Seq, hash and body of each whole entry.
    pub entries: Vec<(u64, Hash, &'a [u8])>,
    /// Bytes up to the end of the last whole entry.
    pub length: usize,
}

/// Reads a segment; none if it does not begin with a whole header.
#[must_use]
pub fn plain(bytes: &[u8]) -> Option<Plain<'_>> {
    let end = header_end(bytes)?;
    let (covered, crc) = bytes[..end].split_at(end - CRC);
    let good = bytes.starts_with(b"CGSPOOL\n\x01\0\0\0") && crc == crc32fast::hash(covered).to_le_bytes();
    let stream = std::str::from_utf8(&covered[HEADER_FIXED..]).ok().filter(|_| good)?;
    let mut read =
        Plain { first_seq: number(bytes, 12)?, prev: hash(bytes, 20)?, stream, entries: Vec::new(), length: end };
    while let Some(entry) = entry(&bytes[read.length..]) {
        if crc_of(entry) != entry[4..8] {
            break;
        }
        read.entries.push((number(entry, 8)?, hash(entry, 16)?, &entry[ENTRY_HEAD..]));
        read.length += entry.len();
    }
    Some(read)
}

/// The same bytes with right checksums, so that what lies behind them is reached; with right seals too, if asked for.
#[must_use]
pub fn repaired(bytes: &[u8], seals: bool) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let Some(end) = header_end(bytes) else { return out };
    let crc = crc32fast::hash(&out[..end - CRC]).to_le_bytes();
    out[end - CRC..end].copy_from_slice(&crc);
    let (mut at, mut prev) = (end, hash(bytes, 20));
    while let Some(length) = entry(&out[at..]).map(<[u8]>::len) {
        let entry = &mut out[at..at + length];
        if let (true, Some(before), Some(seq)) = (seals, prev, number(entry, 8)) {
            let sealed = seal(&before, seq, &entry[ENTRY_HEAD..]);
            entry[16..ENTRY_HEAD].copy_from_slice(sealed.as_bytes());
            prev = Some(sealed);
        }
        let crc = crc_of(entry);
        entry[4..8].copy_from_slice(&crc);
        at += length;
    }
    out
}

fn header_end(bytes: &[u8]) -> Option<usize> {
    let name = u32::from_le_bytes(bytes.get(52..HEADER_FIXED)?.try_into().ok()?) as usize;
    let end = HEADER_FIXED + name + CRC;
    (name <= NAME_MAX && end <= bytes.len()).then_some(end)
}

/// The entry that begins here, as long as it says.
fn entry(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    bytes.get(..ENTRY_HEAD + length).filter(|_| length <= BODY_MAX)
}

fn crc_of(entry: &[u8]) -> [u8; CRC] {
    crc32fast::hash(&[&entry[..4], &entry[8..]].concat()).to_le_bytes()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn hash(bytes: &[u8], at: usize) -> Option<Hash> {
    Hash::try_from(bytes.get(at..at + Hash::LEN)?).ok()
}
