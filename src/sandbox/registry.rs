//! What the npm role holds: packages, versions, tags, tarballs. No HTTP here.

use super::digest::Attachment;
use super::tarball::{Stored, Tarball};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// All packages.
#[derive(Debug, Default)]
pub(super) struct Registry {
    packages: HashMap<String, Package>,
}

#[derive(Debug, Default)]
struct Package {
    /// `description`, `readme`, `maintainers`… of the last publish.
    other: Map<String, Value>,
    tags: Map<String, Value>,
    versions: Vec<Version>,
}

#[derive(Debug, Clone)]
struct Version {
    number: String,
    manifest: Value,
    tarball: Arc<Stored>,
    time: Timestamp,
}

/// Why a publish was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// These versions are there already.
    Exists(Vec<String>),
    /// The document does not hold what a publish needs.
    Invalid(&'static str),
}

/// A packument and the tarballs whose hashes it still lacks.
pub(super) struct Packument {
    body: Value,
    hashes: Vec<(String, Arc<Stored>)>,
}

/// The fields that the abbreviated form has (npm's registry documentation, "abbreviated metadata").
const ABBREVIATED: [&str; 20] = [
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "directories",
    "dist",
    "engines",
    "cpu",
    "os",
    "libc",
    "funding",
    "hasInstallScript",
    "_hasShrinkwrap",
];

/// A bare package.json as a document with that one version under `latest`; a document as it is.
pub(super) fn as_document(document: Value) -> Value {
    match (document.get("versions"), document["version"].as_str()) {
        (None, Some(version)) => {
            let version = version.to_owned();
            json!({
                "_id": document["name"], "name": document["name"], "dist-tags": {"latest": version},
                "versions": {version: document},
            })
        }
        _ => document,
    }
}

impl Registry {
    /// Adds the versions of a publish document; each gets its tarball from `tarball(name, version)`.
    pub(super) fn publish(
        &mut self,
        document: &Value,
        tarball: impl Fn(&str, &str) -> Arc<Stored>,
    ) -> Result<(), Refusal> {
        let name = document["name"]
            .as_str()
            .filter(|name| !name.is_empty())
            .ok_or(Refusal::Invalid("name is missing"))?;
        let versions = document["versions"]
            .as_object()
            .ok_or(Refusal::Invalid("versions is missing"))?;
        let there: Vec<String> = versions
            .keys()
            .filter(|version| self.version(name, version).is_some())
            .cloned()
            .collect();
        if !there.is_empty() {
            return Err(Refusal::Exists(there));
        }
        let package = self.packages.entry(name.to_owned()).or_default();
        for (version, manifest) in versions {
            package.versions.push(Version {
                number: version.clone(),
                manifest: manifest.clone(),
                tarball: tarball(name, version),
                time: Timestamp::now(),
            });
        }
        for (tag, version) in document["dist-tags"].as_object().into_iter().flatten() {
            package.tags.insert(tag.clone(), version.clone());
        }
        for key in ["description", "readme", "maintainers", "keywords"] {
            if let Some(value) = document.get(key) {
                package.other.insert(key.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    fn version(&self, name: &str, version: &str) -> Option<&Version> {
        let package = self.packages.get(name)?;
        package.versions.iter().find(|v| v.number == version)
    }

    /// The tarball of a version.
    pub(super) fn tarball(&self, name: &str, version: &str) -> Option<Arc<Stored>> {
        self.version(name, version).map(|v| Arc::clone(&v.tarball))
    }

    /// Tarballs of the package that have as many bytes as the upload and may thus be the same.
    pub(super) fn alike(&self, name: &str, upload: &Attachment) -> Vec<Arc<Stored>> {
        let mut alike: Vec<Arc<Stored>> = Vec::new();
        let versions = self.packages.get(name).map_or(&[][..], |p| &p.versions);
        for stored in versions.iter().map(|v| &v.tarball) {
            if stored.size() == Some(upload.bytes) && !alike.iter().any(|a| Arc::ptr_eq(a, stored))
            {
                alike.push(Arc::clone(stored));
            }
        }
        alike
    }

    /// The names in which a text occurs; `scope:s` stands for `@s/`, as at npm. In order.
    pub(super) fn search(&self, text: &str) -> Vec<&str> {
        let scope = text
            .strip_prefix("scope:")
            .map(|scope| format!("@{scope}/"));
        let mut names: Vec<&str> = self
            .packages
            .keys()
            .map(String::as_str)
            .filter(|name| match &scope {
                Some(scope) => name.starts_with(scope),
                None => name.contains(text),
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// `dist-tags` of a package.
    pub(super) fn tags(&self, name: &str) -> Option<Value> {
        Some(Value::Object(self.packages.get(name)?.tags.clone()))
    }

    /// Moves a tag; false if there is no such version.
    pub(super) fn tag(&mut self, name: &str, tag: &str, version: &str) -> bool {
        if self.version(name, version).is_none() {
            return false;
        }
        if let Some(package) = self.packages.get_mut(name) {
            package.tags.insert(tag.to_owned(), version.into());
        }
        true
    }

    /// The packument; `base` is the registry's URL without a slash at the end. None if the package is unknown.
    pub(super) fn packument(&self, name: &str, base: &str, abbreviated: bool) -> Option<Packument> {
        let package = self.packages.get(name)?;
        let file = name.rsplit('/').next().unwrap_or(name);
        let mut versions = Map::new();
        let mut time = Map::new();
        let mut hashes = Vec::new();
        for v in &package.versions {
            let mut manifest = v.manifest.clone();
            if let (true, Some(fields)) = (abbreviated, manifest.as_object_mut()) {
                fields.retain(|key, _| ABBREVIATED.contains(&key.as_str()));
            }
            if !manifest["dist"].is_object() {
                manifest["dist"] = json!({});
            }
            manifest["dist"]["tarball"] = json!(format!("{base}/{name}/-/{file}-{}.tgz", v.number));
            if manifest["dist"].get("shasum").is_none() {
                hashes.push((v.number.clone(), Arc::clone(&v.tarball)));
            }
            versions.insert(v.number.clone(), manifest);
            time.insert(v.number.clone(), json!(v.time));
        }
        let modified = package.versions.iter().map(|v| v.time).max();
        let mut body = if abbreviated {
            json!({"name": name, "modified": modified})
        } else {
            time.insert("modified".into(), json!(modified));
            let created = package.versions.iter().map(|v| v.time).min();
            time.insert("created".into(), json!(created));
            let mut body = json!({"_id": name, "name": name, "time": time});
            for (key, value) in &package.other {
                body[key] = value.clone();
            }
            body
        };
        body["dist-tags"] = Value::Object(package.tags.clone());
        body["versions"] = Value::Object(versions);
        Some(Packument { body, hashes })
    }
}

impl Packument {
    /// The JSON, with the hashes of the tarballs, which are computed on first use: not under the registry's lock.
    pub(super) fn finish(mut self) -> Value {
        for (version, tarball) in self.hashes {
            let digests = tarball.digests();
            let dist = &mut self.body["versions"][&version]["dist"];
            dist["shasum"] = json!(digests.sha1);
            dist["integrity"] = json!(digests.integrity);
        }
        self.body
    }
}

/// The tarball of an upload: one that the package has already (same bytes), or the kept bytes, or one that is only known.
pub(super) fn uploaded(
    name: &str,
    version: &str,
    alike: &[Arc<Stored>],
    upload: &Attachment,
    bytes: Option<Vec<u8>>,
) -> Arc<Stored> {
    let same = alike.iter().find(|a| a.digests().sha256 == upload.sha256);
    same.cloned().unwrap_or_else(|| {
        let tarball = bytes.map_or(Tarball::Missing, Tarball::Bytes);
        Arc::new(Stored::new(name, version, tarball))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(registry: &mut Registry, name: &str, version: &str) -> Result<(), Refusal> {
        let document = as_document(
            json!({"name": name, "version": version, "dependencies": {"x": "^1"}, "scripts": {"a": "b"}}),
        );
        registry.publish(&document, |name, version| {
            Arc::new(Stored::new(name, version, Tarball::Synthetic(10)))
        })
    }

    #[test]
    fn a_version_is_published_once() {
        let mut registry = Registry::default();
        assert_eq!(put(&mut registry, "@s/c", "1.0.0"), Ok(()));
        assert_eq!(
            put(&mut registry, "@s/c", "1.0.0"),
            Err(Refusal::Exists(vec!["1.0.0".into()]))
        );
        assert_eq!(put(&mut registry, "@s/c", "1.0.1"), Ok(()));
        assert_eq!(registry.tags("@s/c"), Some(json!({"latest": "1.0.1"})));
        assert_eq!(
            registry.publish(&json!({"versions": {}}), |_, _| unreachable!()),
            Err(Refusal::Invalid("name is missing"))
        );
    }

    #[test]
    fn packuments_are_full_or_abbreviated() {
        let mut registry = Registry::default();
        put(&mut registry, "@s/c", "1.0.0").unwrap();
        let packument = |abbreviated| {
            let packument = registry.packument("@s/c", "http://r/npm", abbreviated);
            packument.unwrap().finish()
        };
        let (full, short) = (packument(false), packument(true));
        let dist = &full["versions"]["1.0.0"]["dist"];
        assert_eq!(dist["tarball"], "http://r/npm/@s/c/-/c-1.0.0.tgz");
        assert_eq!(
            dist["shasum"],
            json!(registry.tarball("@s/c", "1.0.0").unwrap().digests().sha1)
        );
        assert_eq!(full["versions"]["1.0.0"]["scripts"], json!({"a": "b"}));
        assert_eq!(short["versions"]["1.0.0"].get("scripts"), None);
        assert_eq!(short["versions"]["1.0.0"]["dist"], *dist);
        assert_eq!(short.get("time"), None);
        assert_eq!(short["modified"], full["time"]["modified"]);
        assert!(registry.packument("nope", "", false).is_none());
    }
}
