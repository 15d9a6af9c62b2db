//! Closes what this process inherited beside stdin, stdout and stderr.
//!
//! An open socket or directory would be a door that no later step could shut.

use std::fs;

use anyhow::{Context as _, Result};

/// Closes every descriptor above 2 except `kept`.
pub(super) fn close_all_but(kept: i32) -> Result<()> {
    let listing = fs::read_dir("/proc/self/fd").context("cannot list this process's descriptors")?;
    // Collected first: the listing's own descriptor is among them, and is closed by then.
    let open: Vec<i32> = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|fd| *fd > 2 && *fd != kept) {
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
