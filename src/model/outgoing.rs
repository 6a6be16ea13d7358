//! The document that a rebuild or a promotion sends (`design.md` rules 10 and 12, contract.md 4 J), made from the stored one.
//!
//! **The order of keys is part of the contract.** The warehouse cuts the body at `_attachments` and stores what precedes it
//! (contract.md 2.2). So [`Outgoing`] comes in three parts: what precedes the attachment, the attachment's key, and what
//! follows it, `version`, `env` and `__published`, which concern this one delivery and are not to be stored. The tarball
//! itself is streamed between the parts by whoever sends them and never passes through here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::name::PackageName;
use crate::semver::Version;

/// A publish document in the three parts of its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Keys before `_attachments`, in the base's order; `name`, `dist-tags` and `versions` are always among them.
    pub before: Map<String, Value>,
    /// The key of the tarball in `_attachments`: `@s/c-5.0.1-0.tgz`.
    pub attachment: String,
    /// Keys after `_attachments`: `env`, and of a publish `version` and `__published`.
    pub after: Map<String, Value>,
}

/// What is read in the registry's packument at the time of sending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackumentView {
    /// `dist-tags`, all of them.
    pub dist_tags: BTreeMap<String, String>,
    /// `versions[base].dist`, if the packument has it.
    pub dist_of_base: Option<Value>,
}

/// Why a stored document cannot be sent; a fault of ours, for it was accepted once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingError {
    /// No valid `name`.
    #[error("the stored document has no valid name")]
    NoName,
    /// The version is not in `versions`.
    #[error("the stored document has no manifest of {0}")]
    NoManifest(String),
}

/// Keys that the body's second half, or the stream between, brings anew.
const LATER: [&str; 3] = ["_attachments", "env", "__published"];

/// The publish of `base`'s document as `new` (rule 10). `base_doc` is a stored document or a bare package.json.
///
/// `versions` has the new version alone, `dist-tags.latest` and both `_id` name it. The other dist-tags are the packument's,
/// or the document's own if there is no packument. `dist.tarball` names the new version; the hashes stay, since the tarball
/// is the base's; signatures over the old version do not. A missing `dist` is filled from the packument or left out.
/// A `_rev` is dropped, because the registry would take the publish for the edit of an old state.
pub fn publish(
    base_doc: &Map<String, Value>,
    base: &Version,
    new: &Version,
    env: &str,
    packument: Option<&PackumentView>,
) -> Result<Outgoing, OutgoingError> {
    let name = name_of(base_doc)?;
    let doc = whole(base_doc, &name)?;
    let (key, manifest) = manifest_of(&doc, base)?;
    let manifest = rewrite(manifest, &name, key, new, packument);
    let mut tags = Map::new();
    tags.insert("latest".into(), json!(new.to_string()));
    let others: Vec<(String, Value)> = match packument {
        Some(packument) => packument
            .dist_tags
            .iter()
            .map(|(tag, version)| (tag.clone(), json!(version)))
            .collect(),
        None => tags_of(&doc)
            .into_iter()
            .flatten()
            .filter(|(_, version)| version.is_string())
            .map(|(tag, version)| (tag.clone(), version.clone()))
            .collect(),
    };
    tags.extend(others.into_iter().filter(|(tag, _)| tag != "latest"));
    let mut versions = Map::new();
    versions.insert(new.to_string(), Value::Object(manifest));

    let mut before = copy(&doc, &["version", "_rev"]);
    before.insert("_id".into(), json!(name));
    before.insert("dist-tags".into(), Value::Object(tags));
    before.insert("versions".into(), Value::Object(versions));
    let mut after = Map::new();
    after.insert("version".into(), json!(new.to_string()));
    after.insert("env".into(), json!(env));
    after.insert("__published".into(), json!(true));
    Ok(Outgoing {
        before,
        attachment: name.attachment_key(new),
        after,
    })
}

/// The build of `version` in another environment (rule 12): its document as it is, with `env` set and `__published` removed.
///
/// Only if `dist-tags.latest` does not name the version (it was published under another tag) it is made to, because the build
/// service reads no other tag (contract.md 2.1); nothing stores what is sent here.
pub fn promotion(
    doc: &Map<String, Value>,
    version: &Version,
    env: &str,
) -> Result<Outgoing, OutgoingError> {
    let name = name_of(doc)?;
    let doc = whole(doc, &name)?;
    let (key, _) = manifest_of(&doc, version)?;
    let mut tags = tags_of(&doc).cloned().unwrap_or_default();
    let names_it = tags.get("latest").and_then(Value::as_str) == Some(key);
    if !names_it {
        tags.insert("latest".into(), json!(key));
    }
    let mut before = copy(&doc, &[]);
    before.insert("dist-tags".into(), Value::Object(tags));
    let mut after = Map::new();
    after.insert("env".into(), json!(env));
    Ok(Outgoing {
        before,
        attachment: name.attachment_key(version),
        after,
    })
}

fn name_of(doc: &Map<String, Value>) -> Result<PackageName, OutgoingError> {
    doc.get("name")
        .and_then(Value::as_str)
        .and_then(|name| PackageName::parse(name).ok())
        .ok_or(OutgoingError::NoName)
}

/// The document, or the one that a bare package.json stands for (rule 1).
fn whole(
    doc: &Map<String, Value>,
    name: &PackageName,
) -> Result<Map<String, Value>, OutgoingError> {
    if doc.get("versions").is_some_and(Value::is_object) {
        return Ok(doc.clone());
    }
    let key = doc
        .get("version")
        .and_then(Value::as_str)
        .ok_or_else(|| OutgoingError::NoManifest("any version".into()))?;
    let mut manifest = copy(doc, &[]);
    let id = Version::parse(key).map_or_else(|_| key.to_owned(), |version| version.to_string());
    manifest.insert("_id".into(), json!(format!("{name}@{id}")));
    let mut made = Map::new();
    made.insert("_id".into(), json!(name));
    made.insert("name".into(), json!(name));
    if let Some(description) = doc.get("description").filter(|text| text.is_string()) {
        made.insert("description".into(), description.clone());
    }
    made.insert("dist-tags".into(), json!({ "latest": key }));
    made.insert("versions".into(), json!({ key: manifest }));
    Ok(made)
}

/// Everything but what comes later and `without`; `distTags`, if it counts, is called `dist-tags`.
fn copy(doc: &Map<String, Value>, without: &[&str]) -> Map<String, Value> {
    let mut copied = Map::new();
    for (key, value) in doc {
        if LATER.contains(&key.as_str()) || without.contains(&key.as_str()) {
            continue;
        }
        if key == "distTags" {
            copied.entry("dist-tags").or_insert_with(|| value.clone());
        } else {
            copied.insert(key.clone(), value.clone());
        }
    }
    copied
}

/// `distTags` or else `dist-tags`, as rule 1 reads them.
fn tags_of(doc: &Map<String, Value>) -> Option<&Map<String, Value>> {
    ["distTags", "dist-tags"]
        .iter()
        .filter_map(|key| doc.get(*key))
        .find_map(Value::as_object)
}

/// The version's manifest and the text of its key, which may differ from the normalised version.
fn manifest_of<'a>(
    doc: &'a Map<String, Value>,
    version: &Version,
) -> Result<(&'a str, &'a Map<String, Value>), OutgoingError> {
    let missing = || OutgoingError::NoManifest(version.to_string());
    let versions = doc
        .get("versions")
        .and_then(Value::as_object)
        .ok_or_else(missing)?;
    let is_it = |key: &str| Version::parse(key).ok().as_ref() == Some(version);
    // of two keys that mean the same version the one that `latest` names, as rule 1 looked it up
    let latest = tags_of(doc)
        .and_then(|tags| tags.get("latest"))
        .and_then(Value::as_str);
    let exact = version.to_string();
    latest
        .filter(|key| is_it(key))
        .into_iter()
        .chain([exact.as_str()])
        .find_map(|key| versions.get_key_value(key))
        .or_else(|| versions.iter().find(|(key, _)| is_it(key)))
        .and_then(|(key, manifest)| Some((key.as_str(), manifest.as_object()?)))
        .ok_or_else(missing)
}

fn rewrite(
    manifest: &Map<String, Value>,
    name: &PackageName,
    base: &str,
    new: &Version,
    packument: Option<&PackumentView>,
) -> Map<String, Value> {
    let mut manifest = manifest.clone();
    manifest.insert("name".into(), json!(name));
    manifest.insert("version".into(), json!(new.to_string()));
    manifest.insert("_id".into(), json!(format!("{name}@{new}")));
    let own = manifest
        .shift_remove_entry("dist")
        .map(|(_, dist)| dist)
        .filter(Value::is_object);
    let dist = own.or_else(|| packument.and_then(|packument| packument.dist_of_base.clone()));
    if let Some(Value::Object(mut dist)) = dist {
        // they sign name@version, and the registry makes its own
        for signature in ["signatures", "npm-signature", "attestations"] {
            dist.shift_remove(signature);
        }
        if let Some(Value::String(tarball)) = dist.get_mut("tarball") {
            *tarball = rename_tarball(tarball, name, base, new);
        }
        manifest.insert("dist".into(), Value::Object(dist));
    }
    manifest
}

/// `…/-/c-5.0.0.tgz` → `…/-/c-5.0.1-0.tgz`: the base's version in the last segment of the path becomes the new one. A last
/// segment without it (some registries serve tarballs by hash) becomes npm's file name.
fn rename_tarball(url: &str, name: &PackageName, base: &str, new: &Version) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let start = url[..end].rfind('/').map_or(0, |slash| slash + 1);
    let file = &url[start..end];
    let renamed = match file.rfind(base) {
        Some(at) => format!("{}{new}{}", &file[..at], &file[at + base.len()..]),
        None => name.tarball_file(new),
    };
    format!("{}{renamed}{}", &url[..start], &url[end..])
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
