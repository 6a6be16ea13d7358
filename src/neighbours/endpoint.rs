//! The settings of one neighbour (design.md 7): `build_service`, `warehouse`, `registry`.
//!
//! Why: the three are reached in the same way, so one struct describes them all, and everything that can be wrong
//! with it is found at the start (`serve --check`), not at the first send.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a neighbour is and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `http` or `https` address. Its path is kept, a trailing slash does not matter, `user:password@` becomes Basic.
    pub url: Address,
    /// Sent as `Authorization: Bearer`. At most one of `token`, `token_file` and `user`; each wins over the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file that holds the token; white space around it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// `name:password`, sent as Basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Secret>,
    /// PEM file with certificates that are trusted beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How many requests may be under way at once. Kept here for the dispatcher; nothing in this module counts.
    #[serde(default = "twenty", deserialize_with = "at_least_one")]
    pub concurrency: usize,
    /// How long a connection may take, TLS included: `"10s"`, `"500ms"`, `"2m"`, or a number of seconds.
    #[serde(default = "ten_seconds", with = "duration")]
    pub connect_timeout: Duration,
    /// How long nothing may move: no byte up, no head, no line down. There is no limit for the whole.
    #[serde(default = "one_minute", with = "duration")]
    pub idle_timeout: Duration,
}

const fn twenty() -> usize {
    20
}

/// A number that must not be 0: `setting = 0` would mean that nothing is ever done.
pub(crate) fn at_least_one<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default + PartialEq,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        return Err(de::Error::custom("must be at least 1, not 0"));
    }
    Ok(number)
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
const fn one_minute() -> Duration {
    Duration::from_mins(1)
}

impl Endpoint {
    /// An endpoint with everything but the address left at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Address(url.into()),
            token: None,
            token_file: None,
            user: None,
            ca_file: None,
            concurrency: twenty(),
            connect_timeout: ten_seconds(),
            idle_timeout: one_minute(),
        }
    }
}

/// A text that is read from settings and never shown: `Debug` and `Serialize` give `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the header it goes into.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// An address as it was written; `Display`, `Debug` and `Serialize` hide its `user:password@` and what follows its `?`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// The address with its credentials.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.find("://").map_or(0, |scheme| scheme + 3);
        let (scheme, rest) = self.0.split_at(start);
        let (shown, hidden) = match rest.find(['?', '#']) {
            Some(end) => (&rest[..end], &rest[end..]),
            None => (rest, ""),
        };
        f.write_str(scheme)?;
        if !shown.contains('/') && hidden.contains('@') {
            // Perhaps a password with a question mark in it.
            return f.write_str("***");
        }
        match shown.rfind('@') {
            Some(at) if start > 0 => write!(f, "***{}", &shown[at..])?,
            _ => f.write_str(shown)?,
        }
        match hidden.get(..1) {
            Some(mark) => write!(f, "{mark}***"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Durations in settings: `"30s"`, `"1.5s"`, `"500ms"`, `"2m"`, `"1h"`, `"400d"`, or a number of seconds.
/// For `#[serde(with = "…")]`.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, de, fmt};

    /// Reads the text form; `None` if it is none.
    pub fn parse(text: &str) -> Option<Duration> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let number: f64 = text[..digits].parse().ok()?;
        let unit = match text[digits..].trim() {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number * unit).ok()
    }

    /// Writes the text form, in seconds or milliseconds.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if value.subsec_nanos() == 0 {
            serializer.collect_str(&format_args!("{}s", value.as_secs()))
        } else {
            serializer.collect_str(&format_args!("{}ms", value.as_millis()))
        }
    }

    /// Reads a text or a number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\", \"500ms\", \"2m\", or a number of seconds")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
                Ok(Duration::from_secs(seconds))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
                u64::try_from(seconds)
                    .map(Duration::from_secs)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
                Duration::try_from_secs_f64(seconds)
                    .map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_forms() {
        let endpoint: Endpoint = toml::from_str("url = 'http://h:1/npm/'").unwrap();
        assert_eq!(endpoint, Endpoint::new("http://h:1/npm/"));
        assert_eq!(endpoint.concurrency, 20);
        assert_eq!(endpoint.connect_timeout, Duration::from_secs(10));
        assert_eq!(endpoint.idle_timeout, Duration::from_mins(1));
        let endpoint: Endpoint =
            toml::from_str("url = 'http://h'\nconnect_timeout = 3\nidle_timeout = '250ms'")
                .unwrap();
        assert_eq!(endpoint.connect_timeout, Duration::from_secs(3));
        assert_eq!(endpoint.idle_timeout, Duration::from_millis(250));
    }

    #[test]
    fn mistakes_are_errors() {
        for bad in [
            "",
            "url = 'http://h'\ntokn = 'x'",
            "url = 'http://h'\nidle_timeout = '3 parsecs'",
            "url = 'http://h'\nidle_timeout = -3",
            "url = 'http://h'\nconcurrency = 0",
            "url = 'http://h'\nconcurrency = -1",
        ] {
            assert!(toml::from_str::<Endpoint>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("1.5 s", Some(1_500)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("400d", Some(34_560_000_000)),
            ("s", None),
            ("-1s", None),
            ("1y", None),
            ("1e400", None),
        ] {
            let read = duration::parse(text).map(|d| d.as_millis());
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let mut endpoint = Endpoint::new("https://me:pa@ss@h/x");
        endpoint.token = Some(Secret::new("tok"));
        endpoint.user = Some(Secret::new("me:pass"));
        let shown = format!("{endpoint:?} {}", serde_json::to_string(&endpoint).unwrap());
        assert!(!shown.contains("tok\""), "{shown}");
        assert!(
            !shown.contains("pa@ss") && !shown.contains("me:"),
            "{shown}"
        );
        assert!(shown.contains("https://***@h/x"), "{shown}");
        for (address, shown) in [
            ("http://h:1/npm/", "http://h:1/npm/"),
            ("http://h/x?token=a@b#c", "http://h/x?***"),
            ("http://h?token=abc", "http://h?***"),
            ("http://u:p@h/x?token=abc", "http://***@h/x?***"),
            ("http://u:p@h/x#token", "http://***@h/x#***"),
            ("http://u:p?w@h/x", "http://***"),
            ("http://h/a@b", "http://***@b"),
            ("h:1", "h:1"),
        ] {
            assert_eq!(Endpoint::new(address).url.to_string(), shown);
        }
    }
}
