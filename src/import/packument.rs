//! A packument cut into its versions, without holding it: each manifest goes into a file as it comes, and is read from
//! there when its turn is. What is held is a line a version.
//!
//! Why not the abbreviated form, which is a tenth of it: the manifest of a base is what is sent when it is rebuilt, and
//! the build service reads fields that only the full form has (contract.md 2.1).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::document::{ChangeError, Document};
use crate::model::env::Environments;
use crate::semver::Version;

/// What is held of a packument.
#[derive(Debug, Default)]
pub struct Contents {
    /// `name`, if it has one.
    pub name: Option<String>,
    /// `dist-tags`; entries that are not text are left out.
    pub tags: BTreeMap<String, String>,
    /// `time`; entries that are not text are left out.
    times: BTreeMap<String, String>,
    /// The keys of `versions`, each with where its manifest is in the file.
    versions: Vec<(String, Place)>,
}

/// Where a manifest is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
}

/// A version of a packument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The version.
    pub version: Version,
    /// As it is written in the packument.
    pub key: String,
    /// The tag it counts as published under, if not `latest`.
    pub tag: Option<String>,
    /// Where its manifest is.
    pub place: Place,
}

/// Cuts a packument: manifests go to `file`, one after the other.
///
/// # Errors
/// What is not JSON, or has no `versions`: a login page, an error with status 200.
pub fn cut(packument: impl Read, file: &mut impl Write) -> serde_json::Result<Contents> {
    let mut json = serde_json::Deserializer::from_reader(packument);
    let contents = Whole(file).deserialize(&mut json)?;
    json.end()?;
    Ok(contents)
}

impl Contents {
    /// The versions in the order in which they were published, by `time` where it is there, else by number; and the keys
    /// that are no versions.
    ///
    /// Under which tag a version was published is not recorded by registries. What counts here is where the tags stand
    /// now: a version that another tag names and `latest` does not is that tag's (the names of environments are no such
    /// tags: the warehouse moves them along on promotions), and so is every version above the one that `latest` names;
    /// of several tags it is that of the next version that has one. Such a version is never a base nor the highest of its
    /// package (rule 1), until its publish under `latest` is posted.
    pub fn entries(&self, environments: &Environments) -> (Vec<Entry>, Vec<String>) {
        let latest = self.named("latest");
        let mut tagged: BTreeMap<Version, &str> = BTreeMap::new();
        for (tag, version) in &self.tags {
            if tag == "latest" || environments.find(tag).is_some() {
                continue;
            }
            if let Ok(version) = Version::parse(version)
                && Some(&version) != latest.as_ref()
            {
                tagged.entry(version).or_insert(tag);
            }
        }
        let tag_of = |version: &Version| {
            let own = tagged.get(version).copied();
            let above = latest.as_ref().is_none_or(|latest| version > latest);
            own.or_else(|| {
                let next = || tagged.range(version.clone()..).next().map(|(_, tag)| *tag);
                above.then(|| next().unwrap_or("untagged"))
            })
        };
        let mut entries = Vec::with_capacity(self.versions.len());
        let mut unreadable = Vec::new();
        for (key, place) in &self.versions {
            match Version::parse(key) {
                Ok(version) => entries.push(Entry {
                    tag: tag_of(&version).map(str::to_owned),
                    version,
                    key: key.clone(),
                    place: *place,
                }),
                Err(_) => unreadable.push(key.clone()),
            }
        }
        let time = |entry: &Entry| {
            let text = self.times.get(&entry.key)?;
            text.parse::<jiff::Timestamp>().ok()
        };
        entries.sort_by_cached_key(|entry| (time(entry), entry.version.clone()));
        (entries, unreadable)
    }

    fn named(&self, tag: &str) -> Option<Version> {
        let named = self.tags.get(tag)?;
        let there = self.versions.iter().any(|(key, _)| key == named);
        Version::parse(named).ok().filter(|_| there)
    }
}

/// The publish document of one version of a packument: as npm posted it, as far as registries keep that.
///
/// # Errors
/// What a posted document would be refused for.
pub fn document(
    name: &str,
    entry: &Entry,
    mut manifest: Map<String, Value>,
) -> Result<Document, ChangeError> {
    // What registries add about the publish itself.
    for added in ["_npmUser", "_npmOperationalInternal", "_hasShrinkwrap"] {
        manifest.shift_remove(added);
    }
    let mut json = Map::new();
    json.insert("_id".into(), name.into());
    json.insert("name".into(), name.into());
    for kept in ["description", "maintainers"] {
        if let Some(value) = manifest.get(kept) {
            json.insert(kept.into(), value.clone());
        }
    }
    let tag = entry.tag.as_deref().unwrap_or("latest");
    let one = |key: &str, value: Value| Value::Object(Map::from_iter([(key.to_owned(), value)]));
    json.insert("dist-tags".into(), one(tag, entry.key.as_str().into()));
    json.insert("versions".into(), one(&entry.key, Value::Object(manifest)));
    Document::from_json(json, "")
}

/// The whole packument.
struct Whole<'a, W>(&'a mut W);
/// `versions`.
struct Versions<'a, W>(&'a mut W);

impl<'de, W: Write> DeserializeSeed<'de> for Whole<'_, W> {
    type Value = Contents;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Contents, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, W: Write> Visitor<'de> for Whole<'_, W> {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Contents, A::Error> {
        let mut contents = Contents::default();
        let mut is_one = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "name" => {
                    contents.name = map.next_value::<Value>()?.as_str().map(str::to_owned);
                }
                "dist-tags" => contents.tags = texts(map.next_value()?),
                "time" => contents.times = texts(map.next_value()?),
                "versions" if !is_one => {
                    contents.versions = map.next_value_seed(Versions(self.0))?;
                    is_one = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !is_one {
            return Err(A::Error::missing_field("versions"));
        }
        Ok(contents)
    }
}

fn texts(value: Option<BTreeMap<String, Value>>) -> BTreeMap<String, String> {
    let entries = value.unwrap_or_default().into_iter();
    entries
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        })
        .collect()
}

impl<'de, W: Write> DeserializeSeed<'de> for Versions<'_, W> {
    type Value = Vec<(String, Place)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, W: Write> Visitor<'de> for Versions<'_, W> {
    type Value = Vec<(String, Place)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the versions of a packument")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut versions = Vec::new();
        let mut at = 0;
        while let Some(key) = map.next_key::<String>()? {
            let manifest: Box<RawValue> = map.next_value()?;
            let text = manifest.get().as_bytes();
            self.0.write_all(text).map_err(A::Error::custom)?;
            let length = text.len() as u64;
            versions.push((key, Place { at, length }));
            at += length;
        }
        Ok(versions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut_of(packument: &Value) -> (Contents, Vec<u8>) {
        let mut file = Vec::new();
        let contents = cut(packument.to_string().as_bytes(), &mut file).unwrap();
        (contents, file)
    }

    fn shown(packument: &Value) -> Vec<String> {
        let (contents, _) = cut_of(packument);
        let (entries, _) = contents.entries(&Environments::default());
        let shown = entries.into_iter().map(|entry| match entry.tag {
            Some(tag) => format!("{} {tag}", entry.version),
            None => entry.version.to_string(),
        });
        shown.collect()
    }

    fn versions(keys: &[&str]) -> Value {
        keys.iter()
            .map(|key| ((*key).to_owned(), json!({"version": key})))
            .collect::<Map<_, _>>()
            .into()
    }

    #[test]
    fn manifests_are_found_again_whatever_comes_first() {
        let packument = json!({"_id": "c", "versions": {"1.0.0": {"name": "c", "x": [1, {"ü": "}"}]}, "1.1.0": {"y": 2}},
            "readme": "{\"versions\":{}}", "dist-tags": {"latest": "1.1.0", "old": null}, "name": "c"});
        let (contents, file) = cut_of(&packument);
        assert_eq!(contents.name.as_deref(), Some("c"));
        assert_eq!(contents.tags.len(), 1);
        for (key, place) in &contents.versions {
            let from = usize::try_from(place.at).unwrap();
            let to = from + usize::try_from(place.length).unwrap();
            let manifest: Value = serde_json::from_slice(&file[from..to]).unwrap();
            assert_eq!(manifest, packument["versions"][key]);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "[]",
            "<html>",
            r#"{"error":"log in"}"#,
            r#"{"versions":{"1.0.0":{}}"#,
        ] {
            assert!(cut(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_come_in_the_order_of_their_publishing() {
        let keys = ["2.0.0", "1.0.1", "1.0.0", "no version"];
        let mut packument = json!({"dist-tags": {"latest": "2.0.0"}, "versions": versions(&keys)});
        assert_eq!(shown(&packument), ["1.0.0", "1.0.1", "2.0.0"]);
        packument["time"] = json!({"created": "2020-01-01T00:00:00Z", "1.0.0": "2020-01-01T00:00:00.000Z",
            "2.0.0": "2020-02-01T00:00:00.000Z", "1.0.1": "2020-03-01T00:00:00.000Z"});
        assert_eq!(shown(&packument), ["1.0.0", "2.0.0", "1.0.1"]);
        let (_, unreadable) = cut_of(&packument).0.entries(&Environments::default());
        assert_eq!(unreadable, ["no version"]);
    }

    #[test]
    fn rule_1_what_is_not_under_latest_is_under_its_tag() {
        let keys = [
            "1.0.0",
            "1.0.1-0",
            "1.1.0-beta.0",
            "1.1.0-beta.1",
            "2.0.0-rc.0",
            "2.0.0-rc.1",
            "0.9.0",
        ];
        let packument = json!({"versions": versions(&keys), "dist-tags": {"latest": "1.0.1-0", "beta": "1.1.0-beta.1",
            "test": "1.0.0", "production": "0.9.0", "old": "0.9.0", "also": "1.0.1-0"}});
        assert_eq!(
            shown(&packument),
            [
                "0.9.0 old",
                "1.0.0",
                "1.0.1-0",
                "1.1.0-beta.0 beta",
                "1.1.0-beta.1 beta",
                "2.0.0-rc.0 untagged",
                "2.0.0-rc.1 untagged"
            ]
        );
        let none = json!({"versions": versions(&["1.0.0"]), "dist-tags": {"next": "1.0.0"}});
        assert_eq!(shown(&none), ["1.0.0 next"]);
    }

    #[test]
    fn a_document_is_what_npm_posts() {
        let manifest = json!({"name": "@s/c", "version": "1.0.0", "description": "d", "webpack": "4", "_npmUser": {"name": "u"},
            "dependencies": {"a": "^1"}, "dist": {"shasum": "x"}});
        let entry = Entry {
            version: Version::parse("1.0.0").unwrap(),
            key: "1.0.0".into(),
            tag: Some("next".into()),
            place: Place { at: 0, length: 0 },
        };
        let document = document("@s/c", &entry, manifest.as_object().unwrap().clone()).unwrap();
        assert_eq!(document.tag.as_deref(), Some("next"));
        assert_eq!(
            Value::Object(document.json),
            json!({"_id": "@s/c", "name": "@s/c", "description": "d", "dist-tags": {"next": "1.0.0"},
                "versions": {"1.0.0": {"name": "@s/c", "version": "1.0.0", "description": "d", "webpack": "4",
                    "dependencies": {"a": "^1"}, "dist": {"shasum": "x"}}}})
        );
    }
}
