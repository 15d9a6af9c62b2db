//! A mount table, as far as it is asked: which mounts are ours, and which are shared with other namespaces.

use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// What our mounts are called in mount tables. Only who may mount in a namespace can make another one of that name there,
/// and gains nothing but that it is taken away with ours.
pub(crate) const SOURCE: &str = "callgate-trust";

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mount {
    pub id: u64,
    pub target: PathBuf,
    /// Whether what is mounted on it appears in other namespaces.
    pub shared: bool,
    pub ours: bool,
}

/// Reads what the kernel writes into `mountinfo`. Lines that cannot be read are left out.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    // 36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/sda rw
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let id = fields.next()?.parse().ok()?;
    let target = unescape(fields.nth(3)?);
    let shared = fields.any(|field| field.starts_with("shared:"));
    let mut kind = right.split(' ');
    let ours = kind.next()? == "tmpfs" && kind.next()? == SOURCE;
    Some(Mount { id, target, shared, ours })
}

/// Undoes the octal escapes.
fn unescape(field: &str) -> PathBuf {
    let mut all = Vec::new();
    let mut rest = field.as_bytes();
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
    use super::*;

    #[test]
    fn ours_and_shared_ones_are_told() {
        let text = "36 35 98:0 /a /mnt\\040x rw,nosuid shared:1 master:2 - ext4 /dev/sda rw\n\
                    nonsense\n\
                    40 36 0:50 / /etc/ssl/certs ro,nosuid master:7 - tmpfs callgate-trust ro\n\
                    41 36 0:51 / /tmp rw - tmpfs tmpfs rw,shared:3\n";
        let mounts = parse(text);
        let told: Vec<_> = mounts.iter().map(|m| (m.id, m.target.to_str().unwrap(), m.shared, m.ours)).collect();
        assert_eq!(
            told,
            [(36, "/mnt x", true, false), (40, "/etc/ssl/certs", false, true), (41, "/tmp", false, false)]
        );
    }
}
