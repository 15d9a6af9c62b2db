//! `callgate mask`: the masker as a filter, from standard input to standard output.
//!
//! Talks to no agent and needs no privileges. What an agent would mask in an answer it masks here, by the same code.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use callgate_mask::{Content, JsonPlaces, Masker, PseudonymKey, Rules, kind_names, kinds_named};
use callgate_model::{MaskPlace, Masking};
use clap::Args;

use super::{FAILED, OK, USAGE};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// `callgate mask`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl logs pod/shop | callgate mask > shop.log
  curl -s https://api.example.com/users | callgate mask --json --kinds 'pii,json:/*/name=redact'
  callgate mask --kinds 'email=pseudonym,payment_card=partial' --key-file key < export.csv

Each word is WHAT or WHAT=HOW. WHAT is a kind, a group of kinds (pii, secrets, all) or json:POINTER;
HOW is redact, partial or pseudonym. `--kinds help` lists the kinds.
The number of findings of each kind is told on standard error.

Exit codes: 0 masked, 1 reading, writing or masking failed (what was written is masked, and not whole), 2 usage")]
pub struct MaskArgs {
    /// What to mask, and how, as in @mask("…")
    #[arg(long, value_name = "WORDS", default_value = "all")]
    kinds: String,
    /// The input is JSON: numbers stay numbers, and places in it can be masked
    #[arg(long)]
    json: bool,
    /// File with the key of pseudonyms: 32 random bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Do not tell the findings
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
///
/// # Errors
/// Reading, writing or masking failed.
pub fn run(args: &MaskArgs) -> Result<ExitCode> {
    if args.kinds == "help" {
        for word in kind_names() {
            println!("{word}");
        }
        return Ok(ExitCode::from(OK));
    }
    let rules = match rules(args) {
        Ok(rules) => rules,
        Err(error) => {
            eprintln!("callgate: {error:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let content = if args.json { Content::Json } else { Content::Text };
    match filter(io::stdin().lock(), io::stdout().lock(), &rules, content) {
        Ok(counts) => {
            if !args.quiet {
                for (name, count) in counts {
                    eprintln!("{count:>8} {name}");
                }
            }
            Ok(ExitCode::from(OK))
        }
        // Whoever reads has enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::from(OK))
        }
        Err(error) => {
            eprintln!("callgate: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Masks `input` to `output` as it comes; gives the findings by kind, those with none left out.
///
/// # Errors
/// An error of either, or of the masker; what is out by then is masked, and nothing follows it.
pub fn filter(
    mut input: impl Read,
    mut output: impl Write,
    rules: &Arc<Rules>,
    content: Content,
) -> Result<Vec<(String, u64)>> {
    let mut places = JsonPlaces::new(rules);
    let mut masker = Masker::by(rules, content);
    let (mut piece, mut placed, mut out) = (vec![0; PIECE], Vec::new(), Vec::new());
    loop {
        let length = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        placed.clear();
        out.clear();
        match &mut places {
            Some(places) => {
                places.push(&piece[..length], &mut placed)?;
                masker.push(&placed, &mut out)?;
            }
            None => masker.push(&piece[..length], &mut out)?,
        }
        output.write_all(&out)?;
        output.flush()?;
    }
    placed.clear();
    out.clear();
    if let Some(places) = &mut places {
        places.finish(&mut placed)?;
        masker.push(&placed, &mut out)?;
    }
    masker.finish(&mut out)?;
    output.write_all(&out)?;
    output.flush()?;
    let mut counts: Vec<_> = masker.findings_by_kind().map(|(name, count)| (name.to_owned(), count)).collect();
    counts.extend(places.map(|places| ("places".to_owned(), places.masked())));
    counts.retain(|(_, count)| *count > 0);
    Ok(counts)
}

/// The rules that the arguments ask for.
fn rules(args: &MaskArgs) -> Result<Arc<Rules>> {
    let masking = Masking::parse(&args.kinds, kinds_named).context("`--kinds`")?;
    for (place, _) in &masking.places {
        match place {
            MaskPlace::Json(_) => ensure!(args.json, "places in JSON need `--json`"),
            MaskPlace::Header(_) | MaskPlace::Form(_) => bail!("a stream has no headers and no form fields"),
        }
    }
    let key = args.key_file.as_deref().map(read_key).transpose()?;
    let pseudonyms = args.kinds.contains("=pseudonym");
    ensure!(
        key.is_some() || !pseudonyms,
        "pseudonyms need a key: `head -c 32 /dev/urandom > key`, then `--key-file key`"
    );
    Ok(Rules::new(&masking, Arc::default(), key))
}

fn read_key(path: &Path) -> Result<PseudonymKey> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the key in `{}`", path.display()))?;
    let bytes: [u8; PseudonymKey::LENGTH] = bytes
        .try_into()
        .map_err(|_| anyhow::anyhow!("the key in `{}` must have {} bytes", path.display(), PseudonymKey::LENGTH))?;
    Ok(PseudonymKey::new(&bytes))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: MaskArgs,
    }

    fn args(words: &[&str]) -> MaskArgs {
        Cli::try_parse_from([&["mask"], words].concat()).unwrap().args
    }

    fn masked(words: &[&str], text: &str) -> Result<(String, Vec<(String, u64)>)> {
        let args = args(words);
        let content = if args.json { Content::Json } else { Content::Text };
        let mut out = Vec::new();
        let counts = filter(text.as_bytes(), &mut out, &rules(&args)?, content)?;
        Ok((String::from_utf8(out)?, counts))
    }

    #[test]
    fn masks_and_counts() {
        let (text, counts) = masked(&[], "ann@example.com, bob@example.com, 123-45-6789\n").unwrap();
        assert_eq!(text, "[masked:email], [masked:email], [masked:us_ssn]\n");
        assert_eq!(counts, [("email".to_owned(), 2), ("us_ssn".to_owned(), 1)]);
    }

    #[test]
    fn masks_places_and_numbers_in_json() {
        let text = r#"{"name":"Ann","pan":4111111111111111}"#;
        let (text, counts) = masked(&["--json", "--kinds", "all,json:/name"], text).unwrap();
        assert_eq!(text, r#"{"name":"[masked]","pan":1000000000000000}"#);
        assert_eq!(counts, [("payment_card".to_owned(), 1), ("places".to_owned(), 1)]);
    }

    #[test]
    fn pseudonyms_come_from_the_key_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, [7; 32]).unwrap();
        let key = path.to_str().unwrap();
        let words = ["--kinds", "email=pseudonym", "--key-file", key];
        let (text, _) = masked(&words, "ann@example.com").unwrap();
        assert!(text.starts_with("[email:"), "{text}");
        std::fs::write(&path, [7; 31]).unwrap();
        assert!(masked(&words, "").is_err());
    }

    #[test]
    fn refuses_what_cannot_be_done() {
        for words in [
            &["--kinds", "nothing"][..],
            &["--kinds", "jwt=partial"],
            &["--kinds", "email=pseudonym"],
            &["--kinds", "json:/a"],
            &["--json", "--kinds", "header:x"],
            &["--kinds", "email=pseudonym", "--key-file", "/nonexistent/key"],
        ] {
            assert!(rules(&args(words)).is_err(), "{words:?}");
        }
        assert!(masked(&["--json", "--kinds", "json:/a"], "<html>").is_err());
    }
}
