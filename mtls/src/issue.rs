//! Makes certificates: for first steps and for tests. No certificate authority for years: keys lie in one directory.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::SanType;

use crate::certificate::{NODE, READER};
use crate::{Authority, TlsError, TlsFiles};

/// Life of a CA made here.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Longest name. Source: a name in the DNS has up to 253 characters; with its ending it must be the name of a file.
const NAME_MAX: usize = 240;

/// Whom a certificate is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The collector, by the host names and addresses that clients reach it by.
    Collector(Vec<String>),
    /// The agent of a node, by the node's name.
    Node(String),
    /// Somebody who reads records, by any name.
    Reader(String),
}

/// A CA in a directory: `ca.pem` and `ca.key`.
pub struct Issuing {
    directory: PathBuf,
    authority: Authority,
}

impl Issuing {
    /// The CA in `directory`, made there (mode 0700, keys 0600) if there is none.
    ///
    /// # Errors
    /// [`TlsError`] if files cannot be read or written, or are no CA made here.
    pub fn open(directory: &Path) -> Result<Self, TlsError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let (cert, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| TlsError::Write { path: directory.into(), source })?;
        let authority = match read(&key)? {
            Some(pair) => {
                let there = read(&cert)?.ok_or_else(|| TlsError::Missing(cert.clone()))?;
                Authority::from_pem(&there, &pair)?
            }
            None => {
                let made = Authority::make("Callgate collector CA", CA_LIFE)?;
                // The key last: who finds it finds the certificate, too.
                write(&cert, made.pem(), 0o644)?;
                write(&key, &made.key_pem(), 0o600)?;
                made
            }
        };
        Ok(Self { directory: directory.into(), authority })
    }

    /// Makes a certificate with a new key, valid for `life` from now; files of the same name are replaced.
    ///
    /// The files are `collector`, `node-NAME` or `reader-NAME`, with `.pem` and `.key` (mode 0600). The key is replaced
    /// first: who follows the pair keeps the old one until both are there.
    ///
    /// # Errors
    /// [`TlsError`] if a name cannot be in a certificate, or a file cannot be written.
    pub fn issue(&self, role: &Role, life: Duration) -> Result<TlsFiles, TlsError> {
        self.issue_until(role, SystemTime::now() + life)
    }

    /// The same with the end of its validity, which may have passed.
    ///
    /// # Errors
    /// As [`Issuing::issue`].
    pub fn issue_until(&self, role: &Role, until: SystemTime) -> Result<TlsFiles, TlsError> {
        let stem = role.stem()?;
        let issued = self.authority.issue(role, until)?;
        let file = |suffix: &str| self.directory.join(format!("{stem}.{suffix}"));
        let files = TlsFiles { ca: self.directory.join("ca.pem"), cert: file("pem"), key: file("key") };
        write(&files.key, &issued.key, 0o600)?;
        write(&files.cert, &issued.cert, 0o644)?;
        Ok(files)
    }
}

impl Role {
    pub(crate) fn stem(&self) -> Result<String, TlsError> {
        Ok(match self {
            Self::Collector(_) => "collector".into(),
            Self::Node(name) => format!("node-{}", fit(name)?),
            Self::Reader(name) => format!("reader-{}", fit(name)?),
        })
    }

    pub(crate) fn names(&self) -> Result<Vec<SanType>, TlsError> {
        let uri = |prefix: &str, name: &str| Ok(vec![SanType::URI(format!("{prefix}{name}").try_into()?)]);
        match self {
            Self::Collector(names) => names.iter().map(|name| host(name)).collect(),
            Self::Node(name) => uri(NODE, name),
            Self::Reader(name) => uri(READER, name),
        }
    }
}

/// Whom it names, a name after the other: `node/NAME`.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collector(names) => write!(f, "collector {}", names.join(" ")),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Reader(name) => write!(f, "reader/{name}"),
        }
    }
}

/// A host name or an address, as a certificate has it.
fn host(name: &str) -> Result<SanType, TlsError> {
    Ok(match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(fit(name)?.try_into()?),
    })
}

fn fit(name: &str) -> Result<&str, TlsError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    // A name that begins with a dot would be a hidden file, or none.
    let fits = plain && (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.');
    fits.then_some(name).ok_or_else(|| TlsError::Name(name.into()))
}

/// The text of a file, if there is one.
fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::Read { path: path.into(), source }),
    }
}

/// Writes beside the place and renames, so that no reader ever sees half a file.
///
/// # Errors
/// [`TlsError`] if the file cannot be written.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|source| TlsError::Write { path: path.into(), source })
}
