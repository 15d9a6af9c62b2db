//! `callgate policy suggest`: drafts a policy from what was recorded.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use callgate_mask::Detectors;
use callgate_policy::PolicySet;
use clap::Args;

use crate::commands::audit::nothing;
use crate::commands::discover::Which;
use crate::commands::{FAILED, OK};
use crate::discovery::draft;

/// `callgate policy suggest`
#[derive(Debug, Args)]
pub(super) struct SuggestArgs {
    #[command(flatten)]
    which: Which,
}

/// Prints the draft; the exit code.
pub(super) fn run(args: &SuggestArgs, out: &mut impl Write) -> Result<u8> {
    let (discovery, mut source) = args.which.gather()?;
    if discovery.rows.is_empty() {
        eprintln!("callgate: {}", nothing(&mut source)?);
        return Ok(FAILED);
    }
    let text = draft(&discovery);
    let detectors = Detectors::default();
    if let Err(errors) =
        PolicySet::parse(&[("draft.cedar".to_owned(), text.clone())], |word| detectors.kinds_named(word))
    {
        let first = errors.errors().next().context("a draft is refused without an error")?;
        bail!("what was called cannot be put into rules: {first}");
    }
    out.write_all(text.as_bytes())?;
    Ok(OK)
}
