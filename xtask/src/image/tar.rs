//! Writes tar archives whose bytes depend on nothing but what is in them: POSIX ustar, one time for all.

use anyhow::{Context as _, Result, ensure};

use super::tree::{Content, Tree};

/// Unit of everything in an archive: bytes. Source: POSIX.1-2017, pax, "ustar Interchange Format".
const BLOCK: usize = 512;

/// An archive of `tree`, each entry with the time `mtime` (seconds since 1970).
pub fn of(tree: &Tree, mtime: u64) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (path, entry) in tree.entries() {
        let (kind, to, bytes) = match &entry.content {
            Content::Folder => (b'5', "", &[][..]),
            Content::File(bytes) => (b'0', "", &bytes[..]),
            Content::Link(to) => (b'2', to.as_str(), &[][..]),
        };
        let name = if kind == b'5' { format!("{path}/") } else { path.to_owned() };
        let header = header(&name, kind, to, entry.mode, entry.owner, bytes.len() as u64, mtime);
        archive.extend(header.with_context(|| format!("archive `{path}`"))?);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two blocks of zeros end it.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(name: &str, kind: u8, to: &str, mode: u32, owner: u32, size: u64, mtime: u64) -> Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    text(&mut block[..100], name)?;
    octal(&mut block[100..108], mode.into())?;
    octal(&mut block[108..116], owner.into())?;
    octal(&mut block[116..124], owner.into())?;
    octal(&mut block[124..136], size)?;
    octal(&mut block[136..148], mtime)?;
    block[156] = kind;
    text(&mut block[157..257], to)?;
    block[257..265].copy_from_slice(b"ustar\x0000");
    // The sum counts its own field as spaces.
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    octal(&mut block[148..155], sum.into())?;
    Ok(block)
}

fn text(field: &mut [u8], value: &str) -> Result<()> {
    ensure!(value.len() <= field.len(), "`{value}` is longer than {} bytes", field.len());
    field[..value.len()].copy_from_slice(value.as_bytes());
    Ok(())
}

/// Digits and a closing NUL.
fn octal(field: &mut [u8], value: u64) -> Result<()> {
    let digits = field.len() - 1;
    let shown = format!("{value:0digits$o}");
    ensure!(shown.len() == digits, "{value} does not fit into {digits} octal digits");
    field[..digits].copy_from_slice(shown.as_bytes());
    field[digits] = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::exec;

    #[test]
    fn another_tar_reads_what_was_written() {
        let folder = super::super::tests::Folder::new();
        let mut tree = Tree::default();
        tree.file("usr/bin/program", 0o755, vec![7; 1000]);
        tree.file("etc/empty", 0o644, Vec::new());
        tree.folder("var/lib/own", 0o700, 65532);
        tree.folder("tmp", 0o1777, 0);
        tree.link("lib", "usr/lib");
        let archive = folder.path().join("a.tar");
        std::fs::write(&archive, of(&tree, 1_700_000_000).unwrap()).unwrap();

        let mut list = Command::new("tar");
        list.env("TZ", "UTC").args(["--list", "--verbose", "--numeric-owner", "--full-time", "--file"]).arg(&archive);
        let listed = exec::output(&mut list).unwrap();
        let lines: Vec<String> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 etc/",
                "-rw-r--r-- 0/0 0 2023-11-14 22:13:20 etc/empty",
                "lrwxrwxrwx 0/0 0 2023-11-14 22:13:20 lib -> usr/lib",
                "drwxrwxrwt 0/0 0 2023-11-14 22:13:20 tmp/",
                "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 usr/",
                "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 usr/bin/",
                "-rwxr-xr-x 0/0 1000 2023-11-14 22:13:20 usr/bin/program",
                "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 var/",
                "drwxr-xr-x 0/0 0 2023-11-14 22:13:20 var/lib/",
                "drwx------ 65532/65532 0 2023-11-14 22:13:20 var/lib/own/",
            ]
        );
    }

    #[test]
    fn refuses_what_the_format_cannot_hold() {
        let mut tree = Tree::default();
        tree.file(&"x".repeat(101), 0o644, Vec::new());
        assert!(of(&tree, 0).is_err());
        assert!(octal(&mut [0; 8], 1 << 21).is_err());
    }
}
