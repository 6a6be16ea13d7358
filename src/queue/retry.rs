//! What becomes of a rebuild after an attempt: the right-hand side of design.md 4's outcome table.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::neighbours::{Class, Neighbour, Outcome};

/// How often a rebuild is tried, outages not counted.
pub const ATTEMPTS: u32 = 12;

/// How often a tarball is asked for that the registry does not have.
pub const TARBALL_ATTEMPTS: u32 = 3;

/// The longest wish of a neighbour (`Retry-After`) that is followed.
pub const LONGEST_WISH: Duration = Duration::from_hours(1);

const FIRST_DELAY_MS: i64 = 1_000;
const LONGEST_DELAY_MS: i64 = 300_000;

/// What is known about an attempt besides its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Attempts that counted, this one included (as if it counts): 1 for the first.
    pub tries: u32,
    /// An earlier attempt of this rebuild may have reached the build service or warehouse, or was claimed and has no
    /// result (H12).
    pub may_have_reached_before: bool,
    /// The lane said [`super::Refusal::Counts`]: others get through, so a refusal is this rebuild's own (H25).
    pub pause_counts: bool,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// From 0 to 1, at random; spreads delays by a fifth to both sides.
    pub jitter: f64,
}

/// Why a rebuild is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The neighbour refused it for good (a 4xx).
    Refused,
    /// The base has no tarball in the registry.
    MissingTarball,
    /// It was tried [`ATTEMPTS`] times.
    TooManyAttempts,
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused for good"),
            Self::MissingTarball => f.write_str("the registry has no tarball of the base"),
            Self::TooManyAttempts => write!(f, "failed {ATTEMPTS} times"),
        }
    }
}

/// What becomes of the rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Done.
    Sent,
    /// To be sent again, not before `at_ms`. It keeps its version, its id and its place.
    RetryAt {
        /// Milliseconds since the epoch.
        at_ms: i64,
        /// Whether the attempt counts. Always true here; attempts that do not count pause a lane.
        counted: bool,
    },
    /// The neighbour is away. The rebuild stays where it is and the attempt does not count.
    PauseLane {
        /// Whose lane.
        neighbour: Neighbour,
        /// Not before this time; the lane itself may say later ([`super::Lane::refused`]).
        at_ms: i64,
    },
    /// Not tried again unless an operator says so.
    Dead {
        /// Why.
        reason: DeadReason,
    },
    /// The version is somebody else's: this rebuild ends, its node gets the next version.
    Foreign,
    /// The version is there because an earlier attempt of ours got through.
    SentEarlier,
}

/// The decision of design.md 4 for one outcome.
pub fn after(outcome: &Outcome, attempt: &Attempt) -> Next {
    let retry = |retry_after: Option<Duration>| {
        if attempt.tries >= ATTEMPTS {
            return Next::Dead {
                reason: DeadReason::TooManyAttempts,
            };
        }
        let delay = backoff_ms(attempt.tries, LONGEST_DELAY_MS, attempt.jitter);
        Next::RetryAt {
            at_ms: attempt
                .now_ms
                .saturating_add(delay.max(wish_ms(retry_after))),
            counted: true,
        }
    };
    match outcome.class {
        Class::Sent => Next::Sent,
        Class::Pause { retry_after } if attempt.pause_counts => retry(retry_after),
        Class::Retry { retry_after } => retry(retry_after),
        Class::Pause { retry_after } => Next::PauseLane {
            neighbour: outcome.neighbour,
            at_ms: attempt
                .now_ms
                .saturating_add(wish_ms(retry_after).max(FIRST_DELAY_MS)),
        },
        Class::Exists if attempt.may_have_reached_before => Next::SentEarlier,
        Class::Exists => Next::Foreign,
        Class::MissingTarball if attempt.tries >= TARBALL_ATTEMPTS => Next::Dead {
            reason: DeadReason::MissingTarball,
        },
        Class::MissingTarball => retry(None),
        Class::Dead => Next::Dead {
            reason: DeadReason::Refused,
        },
    }
}

/// How long a rebuild waits after its attempt number `tries` that counted, in milliseconds, in the middle of its spread.
pub fn delay_ms(tries: u32) -> i64 {
    backoff_ms(tries, LONGEST_DELAY_MS, 0.5)
}

/// 1 s, 2 s, 4 s … up to `longest`, spread by a fifth to both sides.
pub(super) fn backoff_ms(tries: u32, longest: i64, jitter: f64) -> i64 {
    let doublings = tries.saturating_sub(1).min(20);
    let delay = (FIRST_DELAY_MS << doublings).min(longest);
    // NaN becomes the middle.
    let jitter = if jitter.is_nan() {
        0.5
    } else {
        jitter.clamp(0.0, 1.0)
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most a fifth of `longest`"
    )]
    #[expect(clippy::cast_precision_loss, reason = "delays are far below 2^52 ms")]
    let spread = (delay as f64 / 5.0 * (2.0 * jitter - 1.0)) as i64;
    delay + spread
}

/// A neighbour's wish in milliseconds, bounded to an hour; 0 without one.
pub(super) fn wish_ms(retry_after: Option<Duration>) -> i64 {
    let wish = retry_after.unwrap_or_default().min(LONGEST_WISH);
    i64::try_from(wish.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(class: Class) -> Outcome {
        Outcome {
            class,
            neighbour: Neighbour::Warehouse,
            may_have_reached: true,
            status: None,
            message: String::new(),
        }
    }

    const FIRST: Attempt = Attempt {
        tries: 1,
        may_have_reached_before: false,
        pause_counts: false,
        now_ms: 1_000_000,
        jitter: 0.5,
    };
    const RETRY: Class = Class::Retry { retry_after: None };
    const PAUSE: Class = Class::Pause { retry_after: None };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn retry_in(ms: i64) -> Next {
        Next::RetryAt {
            at_ms: FIRST.now_ms + ms,
            counted: true,
        }
    }

    fn dead(reason: DeadReason) -> Next {
        Next::Dead { reason }
    }

    #[test]
    fn the_table() {
        let reached = Attempt {
            may_have_reached_before: true,
            ..FIRST
        };
        let poison = Attempt {
            pause_counts: true,
            ..FIRST
        };
        let at = |tries| Attempt { tries, ..FIRST };
        let pause = |ms| Next::PauseLane {
            neighbour: Neighbour::Warehouse,
            at_ms: FIRST.now_ms + ms,
        };
        let wish = |seconds| Class::Retry {
            retry_after: Some(secs(seconds)),
        };
        for (class, attempt, expected) in [
            (Class::Sent, FIRST, Next::Sent),
            (RETRY, FIRST, retry_in(1_000)),
            (RETRY, at(2), retry_in(2_000)),
            (RETRY, at(9), retry_in(256_000)),
            (RETRY, at(10), retry_in(300_000)),
            (RETRY, at(11), retry_in(300_000)),
            (RETRY, at(12), dead(DeadReason::TooManyAttempts)),
            (wish(30), FIRST, retry_in(30_000)),
            (wish(1), at(5), retry_in(16_000)),
            (wish(90_000), FIRST, retry_in(3_600_000)),
            (wish(5), at(12), dead(DeadReason::TooManyAttempts)),
            (PAUSE, FIRST, pause(1_000)),
            (PAUSE, at(12), pause(1_000)),
            (
                Class::Pause {
                    retry_after: Some(secs(7)),
                },
                FIRST,
                pause(7_000),
            ),
            (
                Class::Pause {
                    retry_after: Some(secs(99_999)),
                },
                FIRST,
                pause(3_600_000),
            ),
            (PAUSE, poison, retry_in(1_000)),
            (
                PAUSE,
                Attempt {
                    tries: 12,
                    ..poison
                },
                dead(DeadReason::TooManyAttempts),
            ),
            (Class::Exists, FIRST, Next::Foreign),
            (Class::Exists, reached, Next::SentEarlier),
            (
                Class::Exists,
                Attempt {
                    tries: 12,
                    ..reached
                },
                Next::SentEarlier,
            ),
            (Class::Dead, FIRST, dead(DeadReason::Refused)),
            (Class::Dead, reached, dead(DeadReason::Refused)),
            (Class::MissingTarball, FIRST, retry_in(1_000)),
            (Class::MissingTarball, at(2), retry_in(2_000)),
            (
                Class::MissingTarball,
                at(3),
                dead(DeadReason::MissingTarball),
            ),
        ] {
            assert_eq!(
                after(&outcome(class), &attempt),
                expected,
                "{class:?} {attempt:?}"
            );
        }
    }

    fn any_class() -> impl Strategy<Value = Class> {
        let wish = prop::option::of((0u64..1_000_000).prop_map(Duration::from_secs));
        prop_oneof![
            Just(Class::Sent),
            wish.clone()
                .prop_map(|retry_after| Class::Retry { retry_after }),
            wish.prop_map(|retry_after| Class::Pause { retry_after }),
            Just(Class::Exists),
            Just(Class::Dead),
            Just(Class::MissingTarball),
        ]
    }

    proptest! {
        /// A rebuild that only fails ends after exactly twelve counted attempts, however jitter falls.
        #[test]
        fn nothing_is_tried_for_ever(jitters in prop::collection::vec(0.0f64..1.0, 20)) {
            let mut now = 0;
            let mut count = 0;
            for (jitter, tries) in jitters.into_iter().zip(1..) {
                count = tries;
                match after(&outcome(RETRY), &Attempt { tries, now_ms: now, jitter, ..FIRST }) {
                    Next::RetryAt { at_ms, .. } => now = at_ms,
                    next => {
                        prop_assert_eq!(next, dead(DeadReason::TooManyAttempts));
                        break;
                    }
                }
            }
            prop_assert_eq!(count, ATTEMPTS);
            // 511 s of doubling and twice 300 s, a fifth more or less.
            prop_assert!((888_800..=1_333_200).contains(&now), "{}", now);
        }

        /// No outcome is dropped, nothing is due in the past or later than the bounds allow, outages never kill.
        #[test]
        fn bounds(
            class in any_class(), tries in 0u32..40, before in any::<bool>(), jitter in any::<f64>(),
            now_ms in 0i64..4_000_000_000_000,
        ) {
            let attempt = Attempt { tries, may_have_reached_before: before, pause_counts: false, now_ms, jitter };
            match after(&outcome(class), &attempt) {
                Next::RetryAt { at_ms, counted } => {
                    prop_assert!(counted && tries < ATTEMPTS);
                    prop_assert!((now_ms + 800..=now_ms + 3_600_000).contains(&at_ms));
                }
                Next::PauseLane { at_ms, .. } => {
                    prop_assert!((now_ms + 1_000..=now_ms + 3_600_000).contains(&at_ms));
                }
                Next::Dead { .. } => {
                    let ends = matches!(class, Class::Retry { .. } | Class::Dead | Class::MissingTarball);
                    prop_assert!(ends, "{:?}", class);
                }
                Next::Foreign => prop_assert!(!before && class == Class::Exists),
                Next::SentEarlier => prop_assert!(before && class == Class::Exists),
                Next::Sent => prop_assert_eq!(class, Class::Sent),
            }
        }

        /// `Retry-After` is never undercut, up to an hour.
        #[test]
        fn wishes_are_kept(seconds in 0u64..=3_600, tries in 1u32..12, jitter in 0.0f64..1.0) {
            let class = Class::Retry { retry_after: Some(secs(seconds)) };
            let next = after(&outcome(class), &Attempt { tries, jitter, ..FIRST });
            let Next::RetryAt { at_ms, .. } = next else { panic!("{next:?}") };
            prop_assert!(at_ms - FIRST.now_ms >= i64::try_from(seconds).unwrap() * 1_000);
        }
    }
}
