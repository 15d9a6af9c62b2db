//! The small file that remembers across restarts what the segments that are left do not say.
//!
//! Replaced whole (write aside, sync, rename), so that it is the old or the new one after any crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use callgate_model::CallId;
use callgate_proto::id_from_bytes;

use crate::AuditError;

/// First bytes of the file, with the version of its layout.
const MAGIC: [u8; 8] = *b"CGSTATE\x01";
const NAME: &str = "state";
const NAME_ASIDE: &str = "state.tmp";

/// What is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    /// Last record that the collector has.
    pub acked_seq: u64,
    /// A record that was on disk at the time: if it is gone, that was no crash.
    pub durable_seq: u64,
    /// Calls that were open, and whose `begin` was in a segment that was freed since.
    pub open: Vec<CallId>,
}

impl State {
    /// Reads the file; none if there is none.
    pub fn load(dir: &Path) -> Result<Option<Self>, AuditError> {
        let path = dir.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => match Self::decode(&bytes) {
                Some(state) => Ok(Some(state)),
                None => Err(AuditError::Corrupt { file: path, detail: "not a whole state file".into() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AuditError::io("read", path)(error)),
        }
    }

    /// Replaces the file; on return it is on disk.
    pub fn store(&self, dir: &Path, dir_handle: &File) -> io::Result<()> {
        let aside = dir.join(NAME_ASIDE);
        let write = || {
            let mut file = File::create(&aside)?;
            file.write_all(&self.encode())?;
            file.sync_data()?;
            fs::rename(&aside, dir.join(NAME))?;
            dir_handle.sync_all()
        };
        write().inspect_err(|_| {
            // What is left of a failed try would only take room.
            let _ = fs::remove_file(&aside);
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.acked_seq.to_le_bytes());
        out.extend_from_slice(&self.durable_seq.to_le_bytes());
        for call in &self.open {
            out.extend_from_slice(call.0.as_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let rest = covered.strip_prefix(&MAGIC)?;
        let (acked, rest) = rest.split_first_chunk::<8>()?;
        let (durable, rest) = rest.split_first_chunk::<8>()?;
        let open = rest.chunks(16).map(|id| id_from_bytes("call", id).map(CallId)).collect::<Result<_, _>>().ok()?;
        Some(Self { acked_seq: u64::from_le_bytes(*acked), durable_seq: u64::from_le_bytes(*durable), open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_any_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), None);
        let state = State { acked_seq: 5, durable_seq: 9, open: vec![CallId::new(), CallId::new()] };
        state.store(dir.path(), &handle).unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), Some(state.clone()));
        let bytes = state.encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(NAME), &changed).unwrap();
            assert!(matches!(State::load(dir.path()), Err(AuditError::Corrupt { .. })), "bit {bit}");
        }
    }
}
