//! A moment, as logs and the ledger write it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC. Prints as RFC 3339 with nanoseconds: `2026-11-23T21:09:04.000000001Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: u64,
    nanoseconds: u32,
}

impl Timestamp {
    /// Now, by the system's clock; a clock set before 1970 reads as 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp {
            seconds: since.as_secs(),
            nanoseconds: since.subsec_nanos(),
        }
    }

    /// A moment that was remembered: seconds and nanoseconds since 1970.
    pub fn at(seconds: u64, nanoseconds: u32) -> Self {
        Timestamp { seconds, nanoseconds }
    }

    /// RFC 3339 without a fraction, the form of runc's log: `2026-11-23T21:09:04Z`.
    pub fn to_seconds(self) -> String {
        let (year, month, day) = civil(self.seconds / 86_400);
        let second = self.seconds % 86_400;
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.to_seconds();
        write!(f, "{}.{:09}Z", seconds.trim_end_matches('Z'), self.nanoseconds)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counted from 1 March of year 0, so that the leap day is the last of its year: 400 years are always
/// 146 097 days, and the months from March on follow a pattern of 153 days in five months.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days_since_1970 + FROM_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, nanoseconds: u32) -> String {
        Timestamp { seconds, nanoseconds }.to_string()
    }

    #[test]
    fn known_moments_read_as_date_prints_them() {
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_399, 999_999_999), "2000-02-28T23:59:59.999999999Z");
        assert_eq!(text(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_709_251_199, 0), "2024-02-29T23:59:59.000000000Z");
        assert_eq!(text(1_709_251_200, 0), "2024-03-01T00:00:00.000000000Z");
        assert_eq!(text(1_798_761_599, 0), "2026-12-31T23:59:59.000000000Z");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(
            Timestamp {
                seconds: 1_000_000_000,
                nanoseconds: 5
            }
            .to_seconds(),
            "2001-09-09T01:46:40Z"
        );
    }

    #[test]
    fn every_day_of_four_hundred_years_follows_the_one_before() {
        let mut before = civil(0);
        assert_eq!(before, (1970, 1, 1));
        for day in 1..=146_097 {
            let now = civil(day);
            let (year, month, date) = before;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let next = match (month, date) {
                (12, 31) => (year + 1, 1, 1),
                (_, date) if date == length => (year, month + 1, 1),
                (_, date) => (year, month, date + 1),
            };
            assert_eq!(now, next);
            before = now;
        }
        assert_eq!(before, (2370, 1, 1));
    }
}
