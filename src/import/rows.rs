//! What the rows of a warehouse keyspace say (contract.md 3.1, 3.3), judged: which packages there are, their versions in
//! the order in which they were published, their release lines; and the document of a version.
//!
//! A package with a row in `package` is managed; versions and lines of others are left out. `dependent` is not needed: who
//! depends on whom is in the documents, with the ranges.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Failed;
use crate::ingest::Elsewhere;
use crate::model::document::Document;
use crate::model::name::PackageName;
use crate::model::package::Stamp;
use crate::semver::Version;
use crate::store::cassandra::{LineRow, NamedRow, PackageRow, VersionRow};

/// What is in a keyspace, documents and the dependents of lines left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The managed packages.
    pub packages: BTreeMap<PackageName, Package>,
    /// How many versions and lines are there of packages that are not managed.
    pub unmanaged: u64,
    /// Rows that cannot be read.
    pub failed: Vec<Failed>,
}

/// A package of a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// The version that its row in `package` describes.
    pub latest: Option<Version>,
    /// Its versions, in the order in which they were written.
    pub versions: Vec<KnownVersion>,
    /// Its release lines.
    pub elsewhere: Elsewhere,
    /// How the version of each line is written in its row.
    pub written_as: BTreeMap<Version, String>,
}

/// A version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVersion {
    /// The version.
    pub version: Version,
    /// The key of its row in `version`; `None` if only the package's row describes it.
    pub id: Option<String>,
    written: Option<Stamp>,
}

impl Inventory {
    /// A row of `package`. These come first.
    pub fn package(&mut self, name: &str, latest: Option<&str>) {
        match PackageName::parse(name) {
            Ok(name) => {
                let latest = latest.and_then(|text| Version::parse(text).ok());
                self.packages.entry(name).or_default().latest = latest;
            }
            Err(why) => self.fail("package", name, format!("the name {why}")),
        }
    }

    /// A row of `version`.
    pub fn version(&mut self, row: VersionRow) {
        // The name may hold an @ of its own.
        let (name, version) = row.id.rsplit_once('@').unwrap_or((&row.id, ""));
        let name = row.name.as_deref().unwrap_or(name);
        let version = row.version.as_deref().unwrap_or(version);
        let Some(package) = managed(&mut self.packages, name) else {
            self.unmanaged += 1;
            return;
        };
        match Version::parse(version) {
            Ok(version) => package.versions.push(KnownVersion {
                version,
                id: Some(row.id),
                written: row.written,
            }),
            Err(why) => self.fail("version", &row.id, why.to_string()),
        }
    }

    /// A row of `release_line`.
    pub fn line(&mut self, row: &LineRow) {
        let Some((package, version, previous)) = self.line_row("release_line", row) else {
            return;
        };
        if let Some(text) = &row.version {
            package.written_as.insert(version.clone(), text.clone());
        }
        if let Some(written) = row.written {
            package.elsewhere.written.insert(version.clone(), written);
        }
        package.elsewhere.lines.insert(version, previous);
    }

    /// A row of `release_line_head`.
    pub fn head(&mut self, row: &LineRow) {
        if let Some((package, version, _)) = self.line_row("release_line_head", row) {
            package.elsewhere.head = Some(version);
        }
    }

    fn line_row(
        &mut self,
        table: &str,
        row: &LineRow,
    ) -> Option<(&mut Package, Version, Option<Version>)> {
        if managed(&mut self.packages, &row.package).is_none() {
            self.unmanaged += 1;
            return None;
        }
        let text = row.version.as_deref().unwrap_or_default();
        let read = |text: &str| Version::parse(text).map_err(|why| format!("{text:?}: {why}"));
        let judged = read(text).and_then(|version| {
            let previous = row.previous.as_deref().map(read).transpose()?;
            Ok((version, previous))
        });
        match judged {
            Ok((version, previous)) => {
                let package = managed(&mut self.packages, &row.package)?;
                Some((package, version, previous))
            }
            Err(why) => {
                self.fail(table, &format!("{}@{text}", row.package), why);
                None
            }
        }
    }

    /// A row of `dependent_of`.
    pub fn parent(&mut self, row: &NamedRow) {
        let parent = row
            .value
            .as_deref()
            .and_then(|text| PackageName::parse(text).ok());
        if let (Some(package), Some(parent)) = (managed(&mut self.packages, &row.name), parent) {
            package.elsewhere.dependent_of = Some((parent, row.written.unwrap_or(1)));
        }
    }

    /// Puts the versions in order, and adds those that only a row of `package` describes.
    pub fn finish(&mut self) {
        for package in self.packages.values_mut() {
            let there =
                |version: &Version| package.versions.iter().any(|one| one.version == *version);
            if let Some(latest) = package.latest.clone().filter(|latest| !there(latest)) {
                package.versions.push(KnownVersion {
                    version: latest,
                    id: None,
                    written: Some(Stamp::MAX),
                });
            }
            package
                .versions
                .sort_by(|a, b| (a.written, &a.version).cmp(&(b.written, &b.version)));
        }
        self.failed.sort();
    }

    fn fail(&mut self, table: &str, row: &str, why: String) {
        self.failed
            .push(Failed::new(format!("table {table}, row {row}"), why));
    }
}

fn managed<'a>(
    packages: &'a mut BTreeMap<PackageName, Package>,
    name: &str,
) -> Option<&'a mut Package> {
    packages.get_mut(&PackageName::parse(name).ok()?)
}

/// The document in `version.value`.
///
/// # Errors
/// What a posted document would be refused for.
pub fn of_value(value: &str) -> Result<Document, String> {
    Document::parse(value.as_bytes()).map_err(|error| error.to_string())
}

/// A document made of a row of `package`, which has the manifest of its version in columns (contract.md 2.2).
///
/// # Errors
/// What a posted document would be refused for.
pub fn of_package(row: &PackageRow) -> Result<Document, String> {
    let text = |column: &str| row.texts.get(column).map(|text| Value::from(text.as_str()));
    let texts = |column: &str| {
        let map = row.maps.get(column)?;
        let entries = map
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()));
        Some(Value::Object(entries.collect()))
    };
    let list = |column: &str| {
        let set = row.sets.get(column)?;
        Some(set.iter().map(|one| Value::from(one.as_str())).collect())
    };
    // Values of config that were no text are JSON.
    let config = row.maps.get("config").map(|map| {
        let entries = map.iter().map(|(key, value)| {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
            (key.clone(), value)
        });
        Value::Object(entries.collect())
    });
    let mut manifest = Map::new();
    let columns = [
        ("name", text("name")),
        ("version", text("version")),
        ("description", text("description")),
        ("main", text("main")),
        ("gitHead", text("git_head")),
        ("keywords", list("keywords")),
        ("bundledDependencies", list("bundled_dependencies")),
        ("config", config),
        ("repository", texts("repository")),
        ("dependencies", texts("dependencies")),
        ("devDependencies", texts("dev_dependencies")),
        ("peerDependencies", texts("peer_dependencies")),
        ("optionalDependencies", texts("optional_dependencies")),
    ];
    for (key, value) in columns {
        if let Some(value) = value {
            manifest.insert(key.to_owned(), value);
        }
    }
    // The fields that have no column.
    let extended = row.texts.get("extended").map(String::as_str);
    let extended = extended.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    for (key, value) in extended.into_iter().flatten() {
        manifest.entry(key).or_insert(value);
    }
    let (Some(name), Some(version)) = (row.texts.get("name"), row.texts.get("version")) else {
        return Err("its row has no version".into());
    };
    let one = |key: &str, value: Value| Value::Object(Map::from_iter([(key.to_owned(), value)]));
    let json = Map::from_iter([
        ("_id".to_owned(), name.as_str().into()),
        ("name".to_owned(), name.as_str().into()),
        (
            "dist-tags".to_owned(),
            one("latest", version.as_str().into()),
        ),
        ("versions".to_owned(), one(version, Value::Object(manifest))),
    ]);
    Document::from_json(json, "").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> PackageName {
        PackageName::parse(text).unwrap()
    }

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn version(id: &str, written: Option<Stamp>) -> VersionRow {
        VersionRow {
            id: id.to_owned(),
            name: None,
            version: None,
            written,
        }
    }

    fn line(package: &str, version: &str, previous: Option<&str>) -> LineRow {
        LineRow {
            package: package.to_owned(),
            version: Some(version.to_owned()),
            previous: previous.map(str::to_owned),
            written: None,
        }
    }

    #[test]
    fn versions_come_in_the_order_in_which_they_were_written() {
        let mut inventory = Inventory::default();
        inventory.package("@s/c", Some("3.0.0"));
        for (id, written) in [
            ("@s/c@2.0.0", Some(10)),
            ("@s/c@1.0.1", Some(20)),
            ("@s/c@1.0.0", Some(10)),
            ("@s/c@0.1.0", None),
            ("other@1.0.0", Some(1)),
            ("@s/c@undefined", Some(1)),
        ] {
            inventory.version(version(id, written));
        }
        inventory.finish();
        let package = &inventory.packages[&name("@s/c")];
        let order: Vec<String> = package
            .versions
            .iter()
            .map(|one| one.version.to_string())
            .collect();
        assert_eq!(order, ["0.1.0", "1.0.0", "2.0.0", "1.0.1", "3.0.0"]);
        assert_eq!(
            package.versions[4].id, None,
            "only its package's row tells of it"
        );
        assert_eq!(inventory.unmanaged, 1);
        assert_eq!(
            inventory.failed[0].what,
            "table version, row @s/c@undefined"
        );
    }

    #[test]
    fn lines_are_of_managed_packages_and_of_versions() {
        let mut inventory = Inventory::default();
        inventory.package("root", Some("1.1.0"));
        inventory.line(&line("root", "1.0.0", None));
        inventory.line(&line("root", "1.1.0", Some("1.0.0")));
        inventory.line(&line("root", "undefined", Some("1.0.0")));
        inventory.line(&line("other", "1.0.0", None));
        inventory.head(&line("root", "1.1.0", Some("1.0.0")));
        inventory.parent(&NamedRow {
            name: "root".into(),
            value: Some("base".into()),
            written: Some(7),
        });
        inventory.finish();
        let elsewhere = &inventory.packages[&name("root")].elsewhere;
        assert_eq!(elsewhere.head, Some(v("1.1.0")));
        assert_eq!(elsewhere.lines.len(), 2);
        assert_eq!(elsewhere.dependent_of, Some((name("base"), 7)));
        assert_eq!((inventory.unmanaged, inventory.failed.len()), (1, 1));
    }

    #[test]
    fn contract_2_2_a_row_of_package_is_a_manifest() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        let row = PackageRow {
            texts: [
                ("name", "@s/c"),
                ("version", "1.0.0"),
                ("extended", r#"{"webpack":"4","name":"x"}"#),
            ]
            .map(|(key, text)| (key, text.to_owned()))
            .into(),
            sets: [("keywords", ["es6".to_owned()].into())].into(),
            maps: [
                ("dependencies", map(&[("a", "^1.0.0")])),
                ("config", map(&[("files", r#"{"x":1}"#), ("text", "plain")])),
            ]
            .into(),
        };
        let document = of_package(&row).unwrap();
        assert_eq!(
            Value::Object(document.manifest),
            json!({"name": "@s/c", "version": "1.0.0", "keywords": ["es6"],
                "config": {"files": {"x": 1}, "text": "plain"}, "dependencies": {"a": "^1.0.0"}, "webpack": "4"})
        );
        assert_eq!((document.tag, document.version), (None, v("1.0.0")));
        assert!(of_package(&PackageRow::default()).is_err());
    }
}
