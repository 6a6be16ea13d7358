//! Times as people and programs read them.

use serde::{Serialize, Serializer};

use crate::model::package::Millis;

/// A stored time; in JSON RFC 3339 in UTC, such as `"2026-11-02T10:00:00.123Z"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Millis);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Out of jiff's ten thousand years: no clock of ours wrote it.
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("unknown"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn milliseconds_are_always_three_digits() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Time(1_793_613_600_120).to_string(),
            "2026-11-02T10:00:00.120Z"
        );
        assert_eq!(Time(i64::MAX).to_string(), "unknown");
    }
}
