//! Files with certificates, as the tools make them, and mount tables.
//!
//! `stores/` was made once, by openssl 3.0 and by keytool of JDK 17: `two.jks` and `two.p12` (without a password) hold the
//! certificates of `two.pem`, `locked.p12` too, encrypted; `untrusted.p12` has one that Java does not trust, and
//! `rounds.p12` one whose password's check is said to take 2^31 - 1 rounds. `ours.pem` is the CA that is added.

use super::{Seed, numbered};

/// The CA that is added.
pub const OURS: &str = include_str!("stores/ours.pem");

const JKS: &[u8] = include_bytes!("stores/two.jks");
const PKCS12: &[u8] = include_bytes!("stores/two.p12");
const BUNDLE: &str = include_str!("stores/two.pem");
/// Where in [`PKCS12`] the first bag begins, behind the elements around it.
const BAGS: usize = 61;

/// Java's stores: whole, without their digest, and the bags of one alone.
pub fn java_stores() -> Vec<Seed> {
    let mut many = JKS.to_vec();
    many[8..12].fill(0xff);
    vec![
        Seed::new("two.jks", JKS),
        Seed::new("undigested.jks", &JKS[..JKS.len() - 20]),
        Seed::new("many.jks", &many[..many.len() - 20]),
        Seed::new("two.p12", PKCS12),
        Seed::new("bags", &PKCS12[BAGS..]),
        Seed::new("locked.p12", *include_bytes!("stores/locked.p12")),
        Seed::new("untrusted.p12", *include_bytes!("stores/untrusted.p12")),
        Seed::new("rounds.p12", *include_bytes!("stores/rounds.p12")),
    ]
}

/// Bundles of PEM, and files that are none.
pub fn pem_bundles() -> Vec<Seed> {
    let (first, second) = BUNDLE.split_at(BUNDLE[1..].find("-----BEGIN").map_or(0, |at| at + 1));
    numbered(&[
        BUNDLE.to_owned(),
        BUNDLE.replace('\n', "\r\n"),
        BUNDLE.replace('\n', "\r"),
        format!("# One\n{first}\nTwo = 2\n{second}# The end"),
        format!("{first}{OURS}{second}"),
        format!("{} {second}", first.trim_end()),
        first.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        format!("{first}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        first[..first.len() / 2].to_owned(),
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned(),
        "root:*:1:0:99999:7:::\n".to_owned(),
    ])
}

/// Tables of mounts, with names that are meant to mislead.
pub fn mount_tables() -> Vec<Seed> {
    numbered(&[
        &b"22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d\n\
           31 22 0:50 /1 /etc/ssl/certs ro,nosuid,nodev,noexec master:7 - tmpfs callgate-trust ro,size=16384k\n"[..],
        b"36 35 98:0 /a /mnt\\040x\\012y\\134z rw shared:1 master:2 propagate_from:3 unbindable - ext4 /dev/sda rw\n",
        b"40 36 0:50 / /- - - tmpfs callgate-trust ro\n41 36 0:50 / /x shared:1 - tmpfs callgate-trust",
        b"42 36 0:50 / /\xff\xfe rw shared: - tmpfs callgate-trust\\040 ro\n",
        b"43 36 0:50 / /\\777\\18\\ rw - ext4 tmpfs callgate-trust\n",
        b"18446744073709551616 1 0:21 / / rw - ext4 x rw\n",
        b"nonsense\n - tmpfs callgate-trust\n",
        b"",
    ])
}
