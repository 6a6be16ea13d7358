//! Columns that keep their first value, written plainly (protocol.md: "plain write-once columns", H20).
//!
//! Cassandra keeps the value with the highest timestamp. Timestamps that run backwards make that the first one, without a
//! conditional write. Two replicas that write different values within their clocks' difference agree all the same on one
//! of the two.

/// Where the backward time starts: 2020-01-01 in microseconds. Backward timestamps stay below today's, so that a delete
/// with an ordinary timestamp still works.
const TURN: i64 = 1_577_836_800_000_000;

/// The timestamp of a value that the first to write it keeps, at `now` microseconds since 1970.
pub(super) fn backwards(now: i64) -> i64 {
    TURN.saturating_sub(now.saturating_sub(TURN)).max(1)
}

/// Microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::{backwards, now_micros};

    #[test]
    fn later_is_lower_and_below_today() {
        let now = now_micros();
        assert!(backwards(now + 1) < backwards(now));
        assert!(backwards(now) > 0);
        assert!(backwards(now) < now);
    }
}
