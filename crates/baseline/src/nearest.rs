//! "Did you mean": the known word nearest to one that was mistyped.

/// The known word that is nearest to `word` in the number of letters to change (Levenshtein's distance, ASCII
/// case ignored), if one is near enough for a slip of the finger: a third of its letters, at least one, or two
/// (as many as two swapped letters cost) if it has five or more.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len() / 3).max(1 + usize::from(candidate.len() > 4))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    // The last row of the table of distances between the prefixes of both words. Words come from files and
    // command lines, so the work is bounded: what is that much longer is not near.
    let b: Vec<char> = b.chars().collect();
    if a.len() > 4 * b.len() + 4 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_and_a_different_word_is_not() {
        let known = ["profile", "rules", "allow", "limits", "ledger"];
        assert_eq!(nearest("profil", known), Some("profile"));
        assert_eq!(nearest("Rule", known), Some("rules"));
        assert_eq!(nearest("ledgre", known), Some("ledger"));
        assert_eq!(nearest("capabilities", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"l".repeat(1 << 20), known), None);
        assert_eq!(nearest("CAP-1", ["CAP-01", "CAP-02"]), Some("CAP-01"));
    }

    #[test]
    fn the_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
