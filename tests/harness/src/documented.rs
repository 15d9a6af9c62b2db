//! Whether a commented configuration tells the truth: every key is in it, and each default that it shows is the code's.
//!
//! The file shows keys as they would be written, those that have no effect by default behind `# `. A line with
//! `default` in its comment, or in the comment block above it, shows an example instead of the default; one with
//! `instead of` another is left out where that is tried.

/// Checks `text`; `parse` gives what the code makes of a text, in a form that can be compared.
///
/// # Errors
/// Says which key is missing, unknown or shown with another default.
pub fn check(text: &str, parse: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
    let sections = sections(text);
    for section in &sections {
        let name = section.header.as_deref().unwrap_or("the top");
        let whole = section.with(None);
        let meant = parse(&whole).map_err(|error| format!("{name} as shown is refused: {error}\n{whole}"))?;
        // An example: a second way to write a key would otherwise be a duplicate.
        for (at, key) in section.keys.iter().enumerate().filter(|(_, key)| !key.is_example) {
            // Refused without it: it is required, and has no default.
            let Ok(without) = parse(&section.with(Some(at))) else { continue };
            if without != meant {
                return Err(format!("{name}: `{}` is not what holds without it", key.line));
            }
        }
    }
    for header in sections.iter().map(|section| section.header.clone()).collect::<std::collections::BTreeSet<_>>() {
        let header = header.unwrap_or_default();
        let Err(error) = parse(&format!("{header}\nno_such_key = 1")) else {
            return Err(format!("{header}: an unknown key is taken"));
        };
        for key in expected(&error) {
            let shown = |section: &&Section| section.header.clone().unwrap_or_default() == header;
            let is_key = sections.iter().filter(shown).any(|section| section.all.contains(&key));
            let is_table = header.is_empty()
                && sections.iter().any(|s| s.header.as_ref().is_some_and(|h| h.trim_matches(['[', ']']) == key));
            if !is_key && !is_table {
                return Err(format!("`{key}` of {header} is not documented"));
            }
        }
    }
    Ok(())
}

struct Section {
    header: Option<String>,
    keys: Vec<Key>,
    /// Names of all keys, examples included.
    all: Vec<String>,
}

struct Key {
    name: String,
    line: String,
    is_example: bool,
}

impl Section {
    /// Its text, but for one key.
    fn with(&self, but: Option<usize>) -> String {
        let mut text = self.header.iter().fold(String::new(), |text, header| text + header + "\n");
        for (at, key) in self.keys.iter().enumerate() {
            // The first of several ways to write it counts.
            if Some(at) != but && !self.keys[..at].iter().any(|before| before.name == key.name) {
                text += &key.line;
                text.push('\n');
            }
        }
        text
    }
}

fn sections(text: &str) -> Vec<Section> {
    let new = |header| Section { header, keys: Vec::new(), all: Vec::new() };
    let (mut top, mut others, mut block) = (new(None), Vec::new(), String::new());
    let mut inside: Option<Section> = None;
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let code = bare.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() {
            others.extend(inside.take());
            block.clear();
        } else if code.starts_with('[') && code.ends_with(']') {
            others.extend(inside.replace(new(Some(code.into()))));
        } else if let Some((name, _)) = code.split_once(" = ").filter(|(name, _)| is_name(name)) {
            let note = bare[code.len()..].to_lowercase();
            let above = if inside.is_some() { "" } else { block.as_str() };
            let is_example = note.contains("default") || above.to_lowercase().contains("default");
            let section = inside.as_mut().unwrap_or(&mut top);
            section.all.push(name.into());
            if !note.contains("instead of") {
                section.keys.push(Key { name: name.into(), line: code.into(), is_example });
            }
        } else {
            block += line;
        }
    }
    others.extend(inside);
    others.insert(0, top);
    others
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The keys that serde would have taken.
fn expected(error: &str) -> Vec<String> {
    let list = error.split("expected").nth(1).unwrap_or_default();
    let list = list.lines().next().unwrap_or_default();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `a`, which is 1 by default, and `[t]` with `b`, which is 2.
    fn parse(text: &str) -> Result<String, String> {
        let (mut a, mut b, mut table) = ("1", "2", false);
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.split_once(" = ") {
                None if line == "[t]" => table = true,
                Some(("a", value)) if !table => a = value,
                Some(("b", value)) if table => b = value,
                _ => return Err(format!("unknown field, expected {}", if table { "`b`" } else { "`a` or `t`" })),
            }
        }
        Ok(format!("{a} {b}"))
    }

    #[test]
    fn the_truth_passes_and_nothing_else() {
        let truth = "# A number.\n# a = 1\n\n# [t]\n# b = 2 # a note\n";
        check(truth, parse).unwrap();
        check("# Default: one.\n# a = 7\n\n# [t]\n# b = 3 # default: 2\n", parse).unwrap();
        for (from, to, said) in [
            ("a = 1", "a = 7", "`a = 7` is not what holds without it"),
            ("b = 2", "b = 3", "`b = 3` is not what holds without it"),
            ("# a = 1\n", "", "`a` of  is not documented"),
            ("# b = 2 # a note\n", "", "`b` of [t] is not documented"),
            ("# [t]\n# b = 2 # a note\n", "", "`t` of  is not documented"),
            ("a = 1", "c = 1", "the top as shown is refused"),
        ] {
            let error = check(&truth.replace(from, to), parse).unwrap_err();
            assert!(error.contains(said), "{to}: {error}");
        }
    }
}
