//! Reading a packument without holding it.
//!
//! Why: a popular package's document has thousands of versions and tens of megabytes, of which the tags and one or
//! two `dist` are wanted. A registry that does not know the abbreviated form sends the full one, readmes included.
//! The reader skips everything else while it comes, so that twenty of them at once cost kilobytes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// What was asked for of a packument.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Packument {
    /// `dist-tags`; entries that are not text are left out.
    pub dist_tags: BTreeMap<String, String>,
    /// Of the versions asked for, those that are there, with their `dist` (empty if there is none).
    pub dists: BTreeMap<String, Map<String, Value>>,
}

impl Packument {
    /// `versions[version].dist`, if the version is there and has one.
    pub fn dist(&self, version: &str) -> Option<&Map<String, Value>> {
        self.dists.get(version).filter(|dist| !dist.is_empty())
    }

    /// `versions[version].dist.tarball`, where the registry says the tarball is.
    pub fn tarball(&self, version: &str) -> Option<&str> {
        self.dists.get(version)?.get("tarball")?.as_str()
    }

    /// `versions[version].dist.integrity`, the hashes of its tarball.
    pub fn integrity(&self, version: &str) -> Option<&str> {
        self.dists.get(version)?.get("integrity")?.as_str()
    }
}

/// Parses pieces as they come in. Blocks: for a blocking thread.
pub(super) fn read(
    pieces: mpsc::Receiver<Bytes>,
    wanted: &[String],
) -> serde_json::Result<Packument> {
    let pieces = BufReader::new(Pieces::new(pieces));
    let mut json = serde_json::Deserializer::from_reader(pieces);
    let packument = Document(wanted).deserialize(&mut json)?;
    json.end()?;
    Ok(packument)
}

/// Pieces that come in, as a reader. Blocks: for a blocking thread.
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// Reads what comes until the sender is gone.
    pub(crate) fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let len = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}

/// The whole document.
struct Document<'a>(&'a [String]);
/// `dist-tags`.
struct Tags;
/// `versions`.
struct Versions<'a>(&'a [String]);
/// One version that is wanted.
struct Manifest;

macro_rules! map_seed {
    ($seed:ty, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<$value, D::Error> {
                json.deserialize_map(self)
            }
        }
    };
}
map_seed!(Document<'_>, Packument);
map_seed!(Versions<'_>, BTreeMap<String, Map<String, Value>>);
map_seed!(Manifest, Map<String, Value>);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Packument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packument, A::Error> {
        let mut packument = Packument::default();
        let mut is_one = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "dist-tags" => packument.dist_tags = map.next_value_seed(Tags)?,
                "versions" => {
                    packument.dists = map.next_value_seed(Versions(self.0))?;
                    is_one = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // A login page or an error object with status 200 must not pass for a package without versions.
        if !is_one {
            return Err(A::Error::missing_field("versions"));
        }
        Ok(packument)
    }
}

impl<'de> DeserializeSeed<'de> for Tags {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        use serde::Deserialize as _;

        let tags = Option::<BTreeMap<String, Value>>::deserialize(json)?.unwrap_or_default();
        Ok(tags
            .into_iter()
            .filter_map(|(tag, version)| match version {
                Value::String(version) => Some((tag, version)),
                _ => None,
            })
            .collect())
    }
}

impl<'de> Visitor<'de> for Versions<'_> {
    type Value = BTreeMap<String, Map<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the versions of a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut dists = BTreeMap::new();
        while let Some(version) = map.next_key::<String>()? {
            if self.0.contains(&version) {
                dists.insert(version, map.next_value_seed(Manifest)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(dists)
    }
}

impl<'de> Visitor<'de> for Manifest {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut dist = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "dist" {
                if let Value::Object(found) = map.next_value()? {
                    dist = found;
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(dist)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, wanted: &[&str]) -> serde_json::Result<Packument> {
        let wanted: Vec<String> = wanted.iter().map(|&version| version.to_owned()).collect();
        let (sender, receiver) = mpsc::channel(text.len().max(1));
        for piece in text.as_bytes().chunks(7) {
            sender.try_send(Bytes::copy_from_slice(piece)).unwrap();
        }
        drop(sender);
        read(receiver, &wanted)
    }

    const TEXT: &str = r#"{"name":"c","dist-tags":{"latest":"2.0.0","old":null,"next":"3.0.0-0"},
        "versions":{"1.0.0":{"dist":{"tarball":"http://h/1.tgz","integrity":"sha512-x"},"dependencies":{"dist":"1"}},
                    "2.0.0":{"name":"c"},"3.0.0-0":{"dist":{"tarball":"http://h/3.tgz"}}},
        "readme":"[{\"versions\":1}]"}"#;

    #[test]
    fn keeps_what_is_wanted() {
        let packument = parse(TEXT, &["1.0.0", "2.0.0", "9.9.9"]).unwrap();
        let tags: Vec<_> = packument.dist_tags.keys().map(String::as_str).collect();
        assert_eq!(tags, ["latest", "next"]);
        assert_eq!(packument.dists.len(), 2, "neither 3.0.0-0 nor 9.9.9");
        assert_eq!(packument.tarball("1.0.0"), Some("http://h/1.tgz"));
        assert_eq!(packument.integrity("1.0.0"), Some("sha512-x"));
        assert!(packument.dists["2.0.0"].is_empty(), "there, without dist");
        assert!(packument.dist("2.0.0").is_none() && packument.dist("1.0.0").is_some());
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "[]",
            "<html>",
            r#"{"error":"please log in"}"#,
            &TEXT[..TEXT.len() - 1],
            &format!("{TEXT}x"),
        ] {
            assert!(parse(text, &[]).is_err(), "{text}");
        }
    }
}
