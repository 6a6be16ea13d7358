//! A posted body, judged once (`design.md` rules 1 and 2, contract.md 1.2 and 1.3). Whoever holds a [`Document`] holds a valid
//! name, a valid version, its manifest and a `dependencies` that is an object of strings; whoever holds a [`ChangeError`] can
//! tell the sender which field is wrong and what would be right.
//!
//! Everything that is not understood is kept, in its order, because it is passed on when the version is rebuilt.

use std::fmt;

use serde_json::{Map, Value};

use super::edge::{self, EdgeFields, Edges};
use super::id::Digest;
use super::json::{clip, is_truthy, kind, parse_object, path, present, text};
use super::name::PackageName;
use crate::semver::Version;

/// A body as posted to a change or plan route: `<document>` or `{"data": <document>, "promote": <bool>}`.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingChange {
    /// The environment that the body names, unchecked; a path that names one goes first.
    pub env: Option<String>,
    /// What the body says; a bare document says nothing.
    pub promote: Option<bool>,
    /// The document.
    pub document: Document,
}

/// A valid publish document without its attachments, or a bare package.json that stands for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The package.
    pub name: PackageName,
    /// The version that its tag names.
    pub version: Version,
    /// The tag it was published under; `None` is `latest`.
    pub tag: Option<String>,
    /// `__published` is there and true.
    pub published_flag: bool,
    /// The document's own `env`, unchecked.
    pub env: Option<String>,
    /// `versions[…]` of that version; of a bare package.json all but `env` and `__published`.
    pub manifest: Map<String, Value>,
    /// The whole document without `_attachments`, keys in their order.
    pub json: Map<String, Value>,
}

/// What is wrong with a body: always the sender's mistake, 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeError {
    /// Stable, `snake_case`.
    pub code: &'static str,
    /// Where: `data.versions["1.0.0"].dependencies.root`; empty for the body as a whole.
    pub field: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for ChangeError {}

pub(super) fn error(
    code: &'static str,
    field: impl Into<String>,
    message: impl Into<String>,
) -> ChangeError {
    ChangeError {
        code,
        field: field.into(),
        message: message.into(),
    }
}

impl IncomingChange {
    /// Reads a body whose attachments were cut out by [`crate::http::filter::PushFilter`]; both shapes of contract.md 1.2 and
    /// a bare package.json are accepted. A body with a `name` is the document itself.
    pub fn parse(kept: &[u8]) -> Result<Self, ChangeError> {
        let mut body = parse_object(kept)?;
        if present(&body, "name").is_some() {
            let document = Document::from_json(body, "")?;
            return Ok(Self {
                env: document.env.clone(),
                promote: None,
                document,
            });
        }
        let data = match body.shift_remove("data") {
            Some(Value::Object(data)) => data,
            Some(other) => {
                let message = format!(
                    "must be the publish document, an object, not {}",
                    kind(&other)
                );
                return Err(error("invalid_data", "data", message));
            }
            None if body.contains_key("promote") => {
                let message = "is missing: the publish document belongs here";
                return Err(error("missing_data", "data", message));
            }
            None => {
                let message = "is missing: the body must be a publish document, a package.json, or {\"data\": <one of them>, \"promote\": true}";
                return Err(error("missing_name", "name", message));
            }
        };
        let promote = match body.get("promote") {
            None => None,
            Some(Value::Bool(promote)) => Some(*promote),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Some(false),
            Some(other) => {
                let message = format!("must be true or false, not {}", kind(other));
                return Err(error("invalid_promote", "promote", message));
            }
        };
        let env = text(&body, "env", "env", "invalid_env")?.map(str::to_owned);
        let document = Document::from_json(data, "data")?;
        Ok(Self {
            env: env.or_else(|| document.env.clone()),
            promote,
            document,
        })
    }

    /// `promote`, which is true unless the body says otherwise (contract.md 1.2).
    pub fn promotes(&self) -> bool {
        self.promote.unwrap_or(true)
    }
}

impl Document {
    /// Reads the bytes of a stored document, as [`Document::bytes`] made them.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChangeError> {
        Self::from_json(parse_object(bytes)?, "")
    }

    /// Judges a document; `at` is where it stood in the body (`""` or `"data"`), for the errors.
    pub fn from_json(mut json: Map<String, Value>, at: &str) -> Result<Self, ChangeError> {
        json.shift_remove("_attachments");
        let name = read_name(&json, at)?;
        let env = text(&json, "env", &path(at, "env"), "invalid_env")?.map(str::to_owned);
        let published_flag = json.get("__published").is_some_and(is_truthy);
        let found = if present(&json, "versions").is_some() {
            from_versions(&json, at)?
        } else {
            from_package_json(&json, at)?
        };
        check_manifest(&found, &name)?;
        Ok(Self {
            name,
            version: found.version,
            tag: found.tag,
            published_flag,
            env,
            manifest: found.manifest,
            json,
        })
    }

    /// The bytes to store: the document without its attachments, everything else as it came, `env` and `__published` too, so
    /// that reading them again gives the same change.
    pub fn bytes(&self) -> Vec<u8> {
        Value::Object(self.json.clone()).to_string().into_bytes()
    }

    /// The digest of [`Document::bytes`]. It is taken once and kept: a document that was read again may differ in the last digit
    /// of a long fraction.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// The edges that the manifest declares (rules 3 and 4).
    pub fn edges(&self, fields: EdgeFields) -> Edges {
        edge::edges(&self.manifest, fields)
    }
}

/// The manifest of a version, before it was checked.
struct Found {
    version: Version,
    tag: Option<String>,
    manifest: Map<String, Value>,
    /// Where the manifest stood.
    at: String,
}

fn from_versions(json: &Map<String, Value>, at: &str) -> Result<Found, ChangeError> {
    let versions_at = path(at, "versions");
    let versions = match json.get("versions") {
        Some(Value::Object(versions)) => versions,
        other => {
            let message = format!(
                "must be an object of manifests by version, not {}",
                other.map_or("missing", kind)
            );
            return Err(error("invalid_versions", versions_at, message));
        }
    };
    let (tags_key, tags) = match (present(json, "distTags"), present(json, "dist-tags")) {
        (Some(tags), _) => ("distTags", Some(tags)),
        (None, tags) => ("dist-tags", tags),
    };
    let tags_at = path(at, tags_key);
    let tags = match tags {
        None => None,
        Some(Value::Object(tags)) => Some(tags),
        Some(other) => {
            let message = format!(
                "must be an object such as {{\"latest\": \"1.0.0\"}}, not {}",
                kind(other)
            );
            return Err(error("invalid_tag", tags_at, message));
        }
    };
    let latest_at = path(&tags_at, "latest");
    let (key, tag) = match tags.and_then(|tags| present(tags, "latest")) {
        Some(Value::String(latest)) => (latest.as_str(), None),
        Some(other) => {
            let message = format!("must be a version in a string, not {}", kind(other));
            return Err(error("invalid_tag", latest_at, message));
        }
        None => {
            // rule 1: a single version, published under a tag of its own
            let only = versions.keys().next().filter(|_| versions.len() == 1);
            let own = only.and_then(|only| {
                tags?
                    .iter()
                    .find(|(_, version)| version.as_str() == Some(only))
                    .map(|(tag, _)| (only.as_str(), Some(tag.clone())))
            });
            own.ok_or_else(|| {
                let message = "is missing: it must name one of the versions in the document (or another tag must name its only version)";
                error("missing_tag", latest_at.clone(), message)
            })?
        }
    };
    let named_at = match &tag {
        None => latest_at,
        Some(tag) => path(&tags_at, tag),
    };
    let version = Version::parse(key)
        .map_err(|why| error("invalid_version", named_at, clip(&why.to_string(), 300)))?;
    let manifest_at = path(&versions_at, key);
    match versions.get(key) {
        Some(Value::Object(manifest)) => Ok(Found {
            version,
            tag,
            manifest: manifest.clone(),
            at: manifest_at,
        }),
        Some(Value::Null) | None => {
            let message =
                format!("is missing: the tag latest names {version}, so its manifest must be here");
            Err(error("missing_version", manifest_at, message))
        }
        Some(other) => {
            let message = format!(
                "must be the version's package.json, an object, not {}",
                kind(other)
            );
            Err(error("invalid_manifest", manifest_at, message))
        }
    }
}

fn from_package_json(json: &Map<String, Value>, at: &str) -> Result<Found, ChangeError> {
    let version_at = path(at, "version");
    let Some(version) = text(json, "version", &version_at, "invalid_version")? else {
        let (field, what) = if ["dist-tags", "distTags", "_id"]
            .iter()
            .any(|key| json.contains_key(*key))
        {
            (
                path(at, "versions"),
                "a publish document has its manifests by version here",
            )
        } else {
            (
                version_at,
                "a package.json has a version, a publish document has versions",
            )
        };
        return Err(error(
            "missing_version",
            field,
            format!("is missing: {what}"),
        ));
    };
    let version = Version::parse(version)
        .map_err(|why| error("invalid_version", version_at, clip(&why.to_string(), 300)))?;
    let mut manifest = json.clone();
    manifest.shift_remove("env");
    manifest.shift_remove("__published");
    Ok(Found {
        version,
        tag: None,
        manifest,
        at: at.to_owned(),
    })
}

/// The manifest agrees with what names it, and its `dependencies` can be read.
fn check_manifest(found: &Found, name: &PackageName) -> Result<(), ChangeError> {
    let Found { manifest, at, .. } = found;
    let name_at = path(at, "name");
    if let Some(own) = text(manifest, "name", &name_at, "invalid_name")?
        && own != name.as_str()
    {
        let message = format!("is {:?}, but the document is that of {name}", clip(own, 80));
        return Err(error("name_mismatch", name_at, message));
    }
    let version_at = path(at, "version");
    if let Some(own) = text(manifest, "version", &version_at, "invalid_version")?
        && Version::parse(own).ok().as_ref() != Some(&found.version)
    {
        let message = format!("is {:?}, but stands under {}", clip(own, 80), found.version);
        return Err(error("version_mismatch", version_at, message));
    }
    let dependencies_at = path(at, "dependencies");
    match present(manifest, "dependencies") {
        None => Ok(()),
        Some(Value::Object(dependencies)) => {
            match dependencies.iter().find(|(_, range)| !range.is_string()) {
                None => Ok(()),
                Some((parent, range)) => {
                    let message = format!("must be a range in a string, not {}", kind(range));
                    let field = path(&dependencies_at, parent);
                    Err(error("invalid_dependencies", field, message))
                }
            }
        }
        Some(other) => {
            let message = format!(
                "must be an object of ranges by package name, not {}",
                kind(other)
            );
            Err(error("invalid_dependencies", dependencies_at, message))
        }
    }
}

fn read_name(json: &Map<String, Value>, at: &str) -> Result<PackageName, ChangeError> {
    let field = path(at, "name");
    let Some(name) = text(json, "name", &field, "invalid_name")? else {
        let message = "is missing: it must be the package's name";
        return Err(error("missing_name", field, message));
    };
    PackageName::parse(name).map_err(|why| {
        let message = format!("{:?} is not a package name: it {why}", clip(name, 80));
        error("invalid_name", field, message)
    })
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
