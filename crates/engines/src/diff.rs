//! What an edit changes, as diff(1) shows it.

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The lines that differ, with `-` and `+` before them, and some around; empty if none do.
pub fn lines(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // How many lines are shared from each pair of places on; configurations are small.
    let mut shared = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            shared[i][j] = match old[i] == new[j] {
                true => shared[i + 1][j + 1] + 1,
                false => shared[i + 1][j].max(shared[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut all) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            all.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || shared[i + 1][j] >= shared[i][j + 1]) {
            all.push(('-', old[i]));
            i += 1;
        } else {
            all.push(('+', new[j]));
            j += 1;
        }
    }
    let (mut text, mut last) = (String::new(), None);
    for (place, (sign, line)) in all.iter().enumerate() {
        let from = place.saturating_sub(CONTEXT);
        let to = (place + CONTEXT + 1).min(all.len());
        if all[from..to].iter().all(|(sign, _)| *sign == ' ') {
            continue;
        }
        if last.is_some_and(|last| last + 1 < place) {
            text.push_str("...\n");
        }
        last = Some(place);
        text.push(*sign);
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let after = "1\n2\nnew\n3\n4\n5\n6\n7\n8\n9\n10\n12\n";
        assert_eq!(
            lines(before, after),
            " 1\n 2\n+new\n 3\n 4\n 5\n...\n 8\n 9\n 10\n-11\n 12\n"
        );
        assert_eq!(lines(before, before), "");
    }
}
