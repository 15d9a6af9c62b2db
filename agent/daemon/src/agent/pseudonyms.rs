//! The key of this installation's pseudonyms.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use callgate_mask::PseudonymKey;

/// Made at the first start: the same value has the same pseudonym from then on.
pub(super) fn key(state_dir: &Path) -> Result<PseudonymKey> {
    let path = state_dir.join("pseudonym.key");
    let made = || -> std::io::Result<[u8; PseudonymKey::LENGTH]> {
        let mut key = [0; PseudonymKey::LENGTH];
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                File::open(&path)?.read_exact(&mut key)?;
                return Ok(key);
            }
            Err(error) => return Err(error),
        };
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        file.write_all(&key)?;
        file.sync_all()?;
        Ok(key)
    };
    let shown = path.display();
    let key = made().with_context(|| format!("key of pseudonyms `{shown}`: remove it to have a new one made"))?;
    Ok(PseudonymKey::new(&key))
}
