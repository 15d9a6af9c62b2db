//! The unix sockets that somebody listens on, by path.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Most sockets that are hidden one by one. More refuse the start rather than leave some open.
const MOST: usize = 8192;

/// The sockets bound to a path that exists here, sorted. Those of other network namespaces are not listed.
pub(super) fn bound() -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/net/unix").context("cannot read `/proc/net/unix`")?;
    let paths = parse(&String::from_utf8_lossy(&table));
    let there: Vec<_> = paths.into_iter().filter(|path| is_socket(path)).collect();
    if there.len() > MOST {
        bail!("{} unix sockets are open; at most {MOST} can be hidden", there.len());
    }
    Ok(there)
}

/// Whether a socket, and not a link to one, is at `path`.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// `Num RefCount Protocol Flags Type St Inode Path`; abstract names begin with `@`, unbound sockets have no path.
fn parse(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_start().split_once(' ')?.1;
        }
        rest.starts_with('/').then(|| PathBuf::from(rest))
    };
    table.lines().skip(1).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_with_blanks_and_skips_abstract_names() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff8881: 00000002 00000000 00010000 0001 01 23456 /run/a b.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01     1 /x\n\
            ffff8882: 00000003 00000000 00000000 0001 03 23457\n\
            ffff8883: 00000002 00000000 00010000 0001 01 23458 @/tmp/.X11-unix/X0\n\
            ffff8884: 00000002 00000000 00010000 0001 01 23459 relative.sock\n";
        let paths: Vec<_> = parse(table).into_iter().collect();
        assert_eq!(paths, [Path::new("/run/a b.sock"), Path::new("/x")]);
    }

    #[test]
    fn lists_a_socket_that_is_bound_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(bound().unwrap().contains(&path));
    }
}
