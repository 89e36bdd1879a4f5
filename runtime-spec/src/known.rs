//! What a runtime is known not to do, so that it can be compared without a red light.
//!
//! A file of lines `clause where reason`: the id, then `any` or the kind of cgroup machine it fails on
//! (`v1`, `hybrid`, `v2`), then why. A known failure that passes is an error: the line has had its day.
//! Only where a race in the runtime decides, a `?` after the place says that it may pass at times.

/// The known failures of one runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: String,
    place: String,
    at_times: bool,
    reason: String,
}

impl Known {
    /// Reads the list. The error names the line that cannot be understood.
    pub fn parse(text: &str) -> Result<Known, String> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace);
            let (Some(id), Some(place), Some(reason)) = (words.next(), words.next(), words.next()) else {
                return Err(format!(
                    "line {}: wanted `clause where reason`, found {line:?}",
                    number + 1
                ));
            };
            let (place, at_times) = match place.strip_suffix('?') {
                Some(place) => (place, true),
                None => (place, false),
            };
            if !matches!(place, "any" | "v1" | "hybrid" | "v2") {
                return Err(format!(
                    "line {}: {place:?} is not any, v1, hybrid or v2",
                    number + 1
                ));
            }
            let reason = reason.trim().to_owned();
            entries.push(Entry {
                id: id.into(),
                place: place.into(),
                at_times,
                reason,
            });
        }
        Ok(Known { entries })
    }

    /// Why this clause is known to fail on a machine of this kind, if it is.
    pub fn reason(&self, id: &str, mode: &str) -> Option<&str> {
        self.find(id, mode).map(|entry| entry.reason.as_str())
    }

    /// True if the clause is known to fail every time, so that passing is news.
    pub fn is_certain(&self, id: &str, mode: &str) -> bool {
        self.find(id, mode).is_some_and(|entry| !entry.at_times)
    }

    fn find(&self, id: &str, mode: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.id == id && (entry.place == "any" || entry.place == mode))
    }

    /// The ids that are listed.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_failure_counts_where_it_is_said_to() {
        let known = Known::parse("# a remark\n\na.md#x any always so\nb.md#y v2 only there\n").unwrap();
        assert_eq!(known.reason("a.md#x", "hybrid"), Some("always so"));
        assert_eq!(known.reason("b.md#y", "v2"), Some("only there"));
        assert_eq!(known.reason("b.md#y", "hybrid"), None);
        assert_eq!(known.reason("a.md#xx", "v2"), None);
    }

    #[test]
    fn only_a_question_mark_lets_a_known_failure_pass() {
        let known = Known::parse("a.md#x any always\nb.md#y v2? a race\n").unwrap();
        assert!(known.is_certain("a.md#x", "v2"));
        assert!(!known.is_certain("b.md#y", "v2"));
        assert_eq!(known.reason("b.md#y", "v2"), Some("a race"));
        assert!(!known.is_certain("c.md#z", "v2"));
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert_eq!(
            Known::parse("a.md#x any"),
            Err("line 1: wanted `clause where reason`, found \"a.md#x any\"".to_owned())
        );
        assert_eq!(
            Known::parse("a.md#x here because"),
            Err("line 1: \"here\" is not any, v1, hybrid or v2".to_owned())
        );
    }
}
