//! Where CA files are: one table.

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Certificates as PEM.
    Pem,
    /// A trust store of Java.
    Java,
    /// A directory in which OpenSSL looks for certificates by their hash.
    Hashed,
}

/// Places of the system. Symbolic links are followed, within the container's root: whoever made them may write there.
/// Directories first, so that what is in one is not mounted twice.
pub(crate) const SYSTEM: &[(&str, Kind)] = &[
    ("/etc/ssl/certs", Kind::Hashed),                  // Debian, Ubuntu, Alpine, distroless
    ("/etc/ssl/certs/ca-certificates.crt", Kind::Pem), // the same, where the directory cannot be had
    ("/etc/ssl/certs/java/cacerts", Kind::Java),       // Debian, Ubuntu
    ("/etc/ssl/certs/ca-bundle.crt", Kind::Pem),       // older RHEL
    ("/etc/ssl/cert.pem", Kind::Pem),                  // Alpine
    ("/etc/pki/tls/certs/ca-bundle.crt", Kind::Pem),   // RHEL, Fedora, Amazon Linux
    ("/etc/pki/tls/cert.pem", Kind::Pem),              // the same
    ("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", Kind::Pem), // the same
    ("/etc/pki/ca-trust/extracted/java/cacerts", Kind::Java), // the same
    ("/etc/pki/java/cacerts", Kind::Java),             // the same
    ("/etc/ssl/ca-bundle.pem", Kind::Pem),             // SUSE
    ("/var/lib/ca-certificates/ca-bundle.pem", Kind::Pem), // SUSE
    ("/var/lib/ca-certificates/java-cacerts", Kind::Java), // SUSE
    ("/etc/ca-certificates/extracted/tls-ca-bundle.pem", Kind::Pem), // Arch
    ("/usr/local/ssl/cert.pem", Kind::Pem),            // OpenSSL from its source
];

/// Places of languages, looked for: `*` stands for one name, `name*` for one that begins so. No symbolic link is
/// followed: these directories may belong to a user of the container, who could have us mount over another's file.
pub(crate) const SEARCHED: &[(&str, Kind)] = &[
    ("/usr/lib/jvm/*/lib/security/cacerts", Kind::Java),
    ("/usr/lib/jvm/*/jre/lib/security/cacerts", Kind::Java),
    ("/usr/java/*/lib/security/cacerts", Kind::Java),
    ("/usr/local/openjdk*/lib/security/cacerts", Kind::Java),
    ("/opt/java/*/lib/security/cacerts", Kind::Java),
    ("/opt/jdk*/lib/security/cacerts", Kind::Java),
    ("/opt/conda/ssl/cacert.pem", Kind::Pem),
    ("/usr/lib/python3/dist-packages/PACKAGE", Kind::Pem),
    ("/usr/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/usr/local/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/usr/local/lib/python3*/dist-packages/PACKAGE", Kind::Pem),
    ("/opt/conda/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/opt/venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/opt/*/venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/opt/*/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/.venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/app/venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/app/.venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/usr/src/app/.venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/root/.local/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/home/*/.local/lib/python3*/site-packages/PACKAGE", Kind::Pem),
    ("/home/*/.venv/lib/python3*/site-packages/PACKAGE", Kind::Pem),
];

/// What `PACKAGE` stands for: packages of Python that bring roots of their own.
pub(crate) const PACKAGES: &[&str] = &[
    "certifi/cacert.pem",
    "pip/_vendor/certifi/cacert.pem",
    "botocore/cacert.pem",
    "grpc/_cython/_credentials/roots.pem",
];
