//! A mount table, as far as it is asked: which mounts are ours, and which are shared with other namespaces.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// What our mounts are called in mount tables. Only who may mount in a namespace can make another one of that name there,
/// and gains nothing but that it is taken away with ours.
pub(crate) const SOURCE: &str = "callgate-trust";

/// Longest table that is read. Unit: bytes. Source: 100,000 mounts, which the kernel allows, of 80 each.
const TABLE_MAX: u64 = 8 << 20;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Its number, by which descriptors tell it.
    pub id: u64,
    /// Where it is, from the root of who reads the table.
    pub target: PathBuf,
    /// Whether what is mounted on it appears in other namespaces.
    pub shared: bool,
    /// Whether the agent made it, also an earlier one.
    pub ours: bool,
}

/// All mounts in the table `file`.
///
/// # Errors
/// If it cannot be read, or is longer than any that is looked through: what is behind would be overlooked.
pub(crate) fn read(file: File) -> io::Result<Vec<Mount>> {
    let mut bytes = Vec::new();
    file.take(TABLE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TABLE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has too many mounts"));
    }
    Ok(parse(&bytes))
}

/// Reads what the kernel writes into `mountinfo`. Lines that cannot be read are left out.
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/sda rw
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let target = unescape(fields.nth(3)?);
    let mut shared = false;
    for field in fields.by_ref().take_while(|field| *field != b"-") {
        shared |= field.starts_with(b"shared:");
    }
    let ours = fields.next()? == b"tmpfs" && fields.next()? == SOURCE.as_bytes();
    Some(Mount { id, target, shared, ours })
}

/// Undoes the octal escapes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut all = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.first_chunk::<3>()).flatten();
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok()) {
            Some(byte) => {
                all.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                all.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(all).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn ours_and_shared_ones_are_told() {
        let text = b"36 35 98:0 /a /mnt\\040x rw,nosuid shared:1 master:2 - ext4 /dev/sda rw\n\
                    nonsense\n\
                    40 36 0:50 / /etc/ssl/certs ro,nosuid master:7 - tmpfs callgate-trust ro\n\
                    41 36 0:51 / /tmp rw - tmpfs tmpfs rw,shared:3\n\
                    42 36 0:52 / /\xff/certs ro - tmpfs callgate-trust ro";
        let mounts = parse(text);
        let told: Vec<_> = mounts.iter().map(|m| (m.id, m.target.as_os_str().as_bytes(), m.shared, m.ours)).collect();
        let expected: [(u64, &[u8], bool, bool); 4] = [
            (36, b"/mnt x", true, false),
            (40, b"/etc/ssl/certs", false, true),
            (41, b"/tmp", false, false),
            // A name that is no text hides nothing.
            (42, b"/\xff/certs", false, true),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_table_that_is_too_long_is_not_read_in_part() {
        let of = |length: u64| {
            let table = tempfile::tempfile().unwrap();
            table.set_len(length).unwrap();
            read(table)
        };
        assert!(of(TABLE_MAX).is_ok());
        assert_eq!(of(TABLE_MAX + 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
