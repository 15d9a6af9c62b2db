//! The nearest valid name to a wrong one.

use super::KindLookup;

/// The candidate that `word` was probably meant to be; none if all are far from it.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean", or the list of what there is.
pub fn advice(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => {
            let all: Vec<String> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
            format!("valid here: {}", all.join(", "))
        }
    }
}

/// A word that `kinds` knows within two edits of `word`.
///
/// Only the lookup is known here, not the table behind it, so the neighbours of the word are made and looked up.
pub fn nearest_kind(word: &str, kinds: KindLookup<'_>) -> Option<String> {
    let lower = word.to_lowercase();
    if lower.len() > 24 {
        return None;
    }
    let known = |word: &String| kinds(word).is_some();
    if known(&lower) {
        return Some(lower);
    }
    let near = edits(&lower);
    if let Some(found) = near.iter().find(|word| known(word)) {
        return Some(found.clone());
    }
    near.iter().find_map(|word| edits(word).into_iter().find(known))
}

/// Every word one edit away: deletions, swaps, replacements, insertions.
fn edits(word: &str) -> Vec<String> {
    let letters: Vec<char> = ('a'..='z').chain('0'..='9').chain(['_', '-']).collect();
    let chars: Vec<char> = word.chars().collect();
    let mut all = Vec::new();
    for cut in 0..=chars.len() {
        let (head, tail) = chars.split_at(cut);
        let join = |middle: &[char], rest: &[char]| head.iter().chain(middle).chain(rest).collect::<String>();
        if let [first, rest @ ..] = tail {
            all.push(join(&[], rest));
            if let [second, rest @ ..] = rest {
                all.push(join(&[*second, *first], rest));
            }
            all.extend(letters.iter().map(|letter| join(&[*letter], rest)));
        }
        all.extend(letters.iter().map(|letter| join(&[*letter], tail)));
    }
    all
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, ca) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (row, row + 1);
        let mut current = vec![left];
        for (cb, &up) in b.iter().zip(above.iter().skip(1)) {
            left = (diagonal + usize::from(ca != *cb)).min(up + 1).min(left + 1);
            current.push(left);
            diagonal = up;
        }
        above = current;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use callgate_model::MaskKinds;

    use super::*;

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let words = ["mask", "record", "tls"];
        assert_eq!(nearest("msk", words), Some("mask"));
        assert_eq!(nearest("Mask", words), Some("mask"));
        assert_eq!(nearest("recrod", words), Some("record"));
        assert_eq!(nearest("throttle", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn finds_kinds_by_their_lookup_alone() {
        let kinds: KindLookup<'_> = &|word| ["pii", "email"].contains(&word).then_some(MaskKinds(1));
        for (word, found) in [("pi", "pii"), ("PII", "pii"), ("emial", "email"), ("e-mail", "email"), ("mail", "email")]
        {
            assert_eq!(nearest_kind(word, kinds).as_deref(), Some(found), "{word}");
        }
        assert_eq!(nearest_kind("passport", kinds), None);
    }
}
