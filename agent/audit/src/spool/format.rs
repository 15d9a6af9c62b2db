//! What segment files look like. Numbers are little-endian.
//!
//! A segment is named after its first seq (20 digits, `.seg`) and is a header and then entries:
//!
//! | header | bytes | | entry | bytes |
//! | --- | --- | --- | --- | --- |
//! | magic | 8 | | length of the body | 4 |
//! | format version | 4 | | CRC-32 of the rest of the entry and its length | 4 |
//! | first seq | 8 | | seq | 8 |
//! | hash before the first seq | 32 | | hash | 32 |
//! | length of the stream's name | 4 | | body | length |
//! | stream's name | length | | | |
//! | CRC-32 of all this | 4 | | | |
//!
//! The CRC finds torn writes; the hash chain finds changes.

use callgate_seal::Hash;

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"CGSPOOL\n";
/// Version of this layout.
const VERSION: u32 = 1;
/// Header without the stream's name. Unit: bytes.
const HEADER_FIXED: usize = 8 + 4 + 8 + Hash::LEN + 4 + 4;
/// Longest name of a stream. Unit: bytes. Source: host name of at most 64, a slash, `run-` and a UUID, and some air.
pub(crate) const STREAM_MAX: usize = 256;
/// Longest header. Unit: bytes.
pub(crate) const HEADER_MAX: usize = HEADER_FIXED + STREAM_MAX;
/// What an entry has before its body. Unit: bytes.
pub(crate) const ENTRY_HEAD: usize = 4 + 4 + 8 + Hash::LEN;
/// Longest body. Unit: bytes. Source: a chunk of 64 KiB and its frame, or a `begin` with the largest head that the
/// proxy takes, with room to spare; small enough for a gRPC message of 4 MiB.
pub(crate) const BODY_MAX: usize = 1 << 20;

/// Start of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub first_seq: u64,
    pub prev: Hash,
    pub stream: String,
}

impl Header {
    /// File name of the segment.
    pub fn file_name(first_seq: u64) -> String {
        format!("{first_seq:020}.seg")
    }

    /// First seq that a file name stands for; none if it is no segment's.
    pub fn parse_file_name(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".seg")?;
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_FIXED + self.stream.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(self.prev.as_bytes());
        out.extend_from_slice(&(self.stream.len() as u32).to_le_bytes());
        out.extend_from_slice(self.stream.as_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header and says how long it is.
    ///
    /// # Errors
    /// One sentence fragment, if the bytes do not start with a whole header of this version.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), &'static str> {
        let mut rest = bytes;
        if take::<8>(&mut rest)? != MAGIC {
            return Err("not a spool segment");
        }
        if u32::from_le_bytes(take(&mut rest)?) != VERSION {
            return Err("written by another version of the spool");
        }
        let first_seq = u64::from_le_bytes(take(&mut rest)?);
        let prev = Hash(take(&mut rest)?);
        let name_len = u32::from_le_bytes(take(&mut rest)?) as usize;
        if name_len > STREAM_MAX || rest.len() < name_len {
            return Err("the header is cut off");
        }
        let (name, mut rest) = rest.split_at(name_len);
        let covered = bytes.len() - rest.len();
        if u32::from_le_bytes(take(&mut rest)?) != crc32fast::hash(&bytes[..covered]) {
            return Err("the header's checksum is wrong");
        }
        let stream = String::from_utf8(name.to_vec()).map_err(|_| "the stream's name is not text")?;
        Ok((Self { first_seq, prev, stream }, bytes.len() - rest.len()))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or("the header is cut off")?;
    *rest = after;
    Ok(*taken)
}

/// Appends an entry to `out`.
pub(crate) fn push_entry(out: &mut Vec<u8>, seq: u64, hash: &Hash, body: &[u8]) {
    let start = out.len();
    out.reserve(ENTRY_HEAD + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(hash.as_bytes());
    out.extend_from_slice(body);
    let crc = entry_crc(&out[start..start + 4], &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Head of an entry: what is known before its body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryHead {
    pub body_len: usize,
    crc: u32,
    pub seq: u64,
    pub hash: Hash,
}

impl EntryHead {
    /// Reads the head; none if a body of that length cannot be.
    pub fn decode(bytes: &[u8; ENTRY_HEAD]) -> Option<Self> {
        let mut rest = &bytes[..];
        let body_len = u32::from_le_bytes(take(&mut rest).ok()?) as usize;
        let crc = u32::from_le_bytes(take(&mut rest).ok()?);
        let seq = u64::from_le_bytes(take(&mut rest).ok()?);
        let hash = Hash(take(&mut rest).ok()?);
        (body_len <= BODY_MAX).then_some(Self { body_len, crc, seq, hash })
    }

    /// Whether the checksum fits; `entry` is the whole entry.
    pub fn fits(&self, entry: &[u8]) -> bool {
        entry_crc(&entry[..4], &entry[8..]) == self.crc
    }
}

fn entry_crc(length: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(length);
    crc.update(rest);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_any_change_is_found() {
        let header = Header { first_seq: 77, prev: Hash([3; 32]), stream: "node/run-1".into() };
        let bytes = header.encode();
        let mut followed = bytes.clone();
        followed.extend_from_slice(b"more");
        assert_eq!(Header::decode(&followed), Ok((header, bytes.len())));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&changed).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn file_names_sort_and_parse() {
        assert_eq!(Header::parse_file_name(&Header::file_name(42)), Some(42));
        assert_eq!(Header::parse_file_name(&Header::file_name(u64::MAX)), Some(u64::MAX));
        for bad in ["1.seg", "state", "0000000000000000000x.seg", "99999999999999999999.seg"] {
            assert_eq!(Header::parse_file_name(bad), None, "{bad}");
        }
    }
}
