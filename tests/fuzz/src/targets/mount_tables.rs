//! Tables of mounts, whose names workloads choose: what is read is what each line says, and what is ours says so.

use std::os::unix::ffi::OsStrExt as _;

use callgate_trust::table::{self, Mount};

pub fn run(data: &[u8]) -> bool {
    let mounts = table::parse(data);
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    assert!(mounts.len() <= lines.len());
    let ours = |line: &&&[u8]| line.windows(23).any(|window| window == b" - tmpfs callgate-trust");
    assert!(mounts.iter().filter(|mount| mount.ours).count() <= lines.iter().filter(ours).count(), "another's is ours");
    for mount in &mounts {
        assert_eq!(table::parse(&written(mount)), std::slice::from_ref(mount));
    }
    // Each line by itself says what it says among others.
    assert_eq!(lines.iter().flat_map(|line| table::parse(line)).collect::<Vec<_>>(), mounts);
    !mounts.is_empty()
}

/// A line as the kernel would write it.
fn written(mount: &Mount) -> Vec<u8> {
    let mut line = format!("{} 1 0:1 / ", mount.id).into_bytes();
    for byte in mount.target.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").as_bytes()),
            other => line.push(*other),
        }
    }
    let shared = if mount.shared { " shared:1" } else { "" };
    let source = if mount.ours { "tmpfs callgate-trust" } else { "ext4 /dev/sda" };
    line.extend(format!(" rw{shared} - {source} rw").as_bytes());
    line
}
