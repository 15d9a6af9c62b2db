//! `callgate-collector certs init`: a CA and certificates for first steps.

use std::path::PathBuf;
use std::time::Duration;

use callgate_mtls::{Issuing, Role, TlsError};
use clap::Args;

/// What to make.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// Directory of the CA and of what it makes; keys are readable by their owner alone
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Host name or address that the collector is reached by (repeat for several) [default with a new CA: localhost, 127.0.0.1, ::1]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Node whose agent ships records: `node` in its configuration, else its host name (repeat for several)
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Somebody who reads records with `--collector` (repeat for several)
    #[arg(long, value_name = "NAME")]
    reader: Vec<String>,
    /// Validity; unit: days
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

/// Makes them; gives one line for each.
///
/// # Errors
/// [`TlsError`] if a name cannot be in a certificate, or a file cannot be read or written.
pub fn make_certs(args: &CertsArgs) -> Result<Vec<String>, TlsError> {
    let fresh = !args.directory.join("ca.key").exists();
    let issuing = Issuing::open(&args.directory)?;
    let mut roles = Vec::new();
    if !args.name.is_empty() {
        roles.push(Role::Collector(args.name.clone()));
    } else if fresh {
        roles.push(Role::Collector(["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()));
    }
    roles.extend(args.node.iter().cloned().map(Role::Node));
    roles.extend(args.reader.iter().cloned().map(Role::Reader));
    let life = Duration::from_secs(u64::from(args.days) * 86_400);
    roles
        .iter()
        .map(|role| {
            let files = issuing.issue(role, life)?;
            Ok(format!("{}  {}", files.cert.display(), files.key.display()))
        })
        .collect()
}
