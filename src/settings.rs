//! Settings: defaults < `feedsme.toml` < `FEEDSME_*` < flags (design.md 7).
//!
//! Every source is a table of the same shape; they are laid over each other and read once, so that a name means the same
//! everywhere and an unknown one is an error everywhere: `build_service.url` in the file is
//! `FEEDSME_BUILD_SERVICE__URL` in the environment and `--build-service-url` on the command line.

mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::model::edge::EdgeFields;
use crate::model::env::Environments;
use crate::neighbours::endpoint::{Endpoint, at_least_one, duration};
use crate::plan::{Confirm, Increment, Rules, WithoutLine};

pub use self::store::{CassandraSettings, StoreAddress};

/// The file that is read if none is named and it is there.
pub const DEFAULT_FILE: &str = "feedsme.toml";

/// Variables that begin with `FEEDSME_` and are no settings: they belong to the command line or to the tests.
const NOT_SETTINGS: [&str; 4] = [
    "FEEDSME_CONFIG",
    "FEEDSME_SERVER",
    "FEEDSME_TEST_CASSANDRA",
    "FEEDSME_CASSANDRA_JAVA",
];

/// All settings, with their defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address to listen on. Until callers can be told apart by tokens, only a loopback address.
    pub listen: SocketAddr,
    /// Where state is kept: `sqlite:PATH`, with `?synchronous=off` for data that may be lost in a power cut, or
    /// `cassandra://USER@HOST,HOST/KEYSPACE`.
    pub store: StoreAddress,
    /// How to get into Cassandra.
    pub cassandra: CassandraSettings,
    /// How long finished changes, waves and attempts are kept. Never ended: versions, lines, reservations, promotions.
    #[serde(with = "duration")]
    pub retain: Duration,
    /// How long a replica may be silent before the others take over its work.
    #[serde(with = "duration")]
    pub replica_ttl: Duration,
    /// The environments, in the order of promotion; versions are born in the first.
    pub environments: Vec<String>,
    /// How a rebuild's version is made from its base: `prerelease` (5.0.1-0) or `patch` (5.0.1).
    pub increment: Increment,
    /// What a promotion does that has no release line: `nothing`, or `highest`.
    pub promote_without_line: WithoutLine,
    /// For how long after its end a repeated promotion is a duplicate.
    #[serde(with = "duration")]
    pub duplicate_window: Duration,
    /// For how long publishes share the wave of the first of them; 0: each has its own.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// How long after it was sent a parent is waited for.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// What counts as published: `notice`, or `outcome`, told to `/outcomes`.
    pub confirm: Confirm,
    /// A wave of more rebuilds waits for an operator's approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_above: Option<u32>,
    /// Whether lost notices of our own rebuilds are made up for.
    pub recover: bool,
    /// Which fields of a manifest make edges: `dependencies`, always, and `optional` and `peer`.
    pub edges: Vec<EdgeField>,
    /// The largest document that is accepted, attachments not counted, in bytes.
    #[serde(deserialize_with = "at_least_one")]
    pub document_limit: usize,
    /// The largest body that is accepted, in bytes; no less than `document_limit`.
    pub body_limit: u64,
    /// How long a stop waits for what is being sent.
    #[serde(with = "duration")]
    pub shutdown_grace: Duration,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or a list such as `info,feedsme::dispatch=debug`.
    pub log: String,
    /// How it is logged: `text` or `json`.
    pub log_format: LogFormat,
    /// The build service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_service: Option<Endpoint>,
    /// The warehouse; without one, publishes go to the build service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<Endpoint>,
    /// The npm registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Endpoint>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1337)),
            store: StoreAddress::file("feedsme.sqlite3"),
            cassandra: CassandraSettings::default(),
            retain: Duration::from_hours(400 * 24),
            replica_ttl: Duration::from_secs(10),
            environments: Environments::default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            increment: Increment::default(),
            promote_without_line: WithoutLine::default(),
            duplicate_window: Duration::from_mins(1),
            settle: Duration::ZERO,
            deadline: Duration::from_mins(30),
            confirm: Confirm::default(),
            approve_above: None,
            recover: true,
            edges: vec![EdgeField::Dependencies],
            document_limit: 1024 * 1024,
            body_limit: 500_000_000,
            shutdown_grace: Duration::from_secs(25),
            log: "info".into(),
            log_format: LogFormat::Text,
            build_service: None,
            warehouse: None,
            registry: None,
        }
    }
}

/// A field of a manifest (setting `edges`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeField {
    /// `dependencies`.
    Dependencies,
    /// `optionalDependencies`.
    Optional,
    /// `peerDependencies`.
    Peer,
}

/// Setting `log_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the settings cannot be used; the text names the source and the setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("settings file {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// A source has a mistake in it.
    #[error("{0}: {1}")]
    Wrong(String, String),
}

impl Settings {
    /// Reads all sources. `file`: the one that must be there, if named; else [`DEFAULT_FILE`], if it is there.
    /// `variables` are the process's; `flags` are (name, value) such as `("build_service.url", "http://…")`.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, SettingsError> {
        let mut table = read_file(file)?;
        for (name, value) in variables {
            let Some(path) = name
                .strip_prefix("FEEDSME_")
                .filter(|_| !NOT_SETTINGS.contains(&&*name))
            else {
                continue;
            };
            let path = path.to_ascii_lowercase().replace("__", ".");
            check(&path, &value, &format!("variable {name}"))?;
            put(&mut table, &path, &value);
        }
        for (path, value) in flags {
            check(path, value, &format!("flag --{}", flag_name(path)))?;
            put(&mut table, path, value);
        }
        let settings: Self = table.try_into().map_err(|error: toml::de::Error| {
            SettingsError::Wrong("settings".into(), short(&error))
        })?;
        settings.rules()?;
        settings.check_listen()?;
        settings.check_limits()?;
        settings.cassandra.check()?;
        Ok(settings)
    }

    /// The settings that decisions depend on.
    pub fn rules(&self) -> Result<Rules, SettingsError> {
        let environments = Environments::new(&self.environments)
            .map_err(|error| SettingsError::Wrong("settings".into(), error.to_string()))?;
        if !self.edges.contains(&EdgeField::Dependencies) {
            let text =
                "edges must contain \"dependencies\"; \"optional\" and \"peer\" may be added";
            return Err(SettingsError::Wrong("settings".into(), text.into()));
        }
        Ok(Rules {
            environments,
            increment: self.increment,
            promote_without_line: self.promote_without_line,
            duplicate_window: self.duplicate_window,
            settle: self.settle,
            deadline: self.deadline,
            confirm: self.confirm,
            approve_above: self.approve_above,
            recover: self.recover,
            retain: self.retain,
            edges: EdgeFields {
                optional: self.edges.contains(&EdgeField::Optional),
                peer: self.edges.contains(&EdgeField::Peer),
            },
        })
    }

    fn check_limits(&self) -> Result<(), SettingsError> {
        let (body, document) = (self.body_limit, self.document_limit);
        let wrong = |text: &str| Err(SettingsError::Wrong("settings".into(), text.into()));
        if self.retain < Duration::from_hours(24) {
            return wrong(
                "retain is less than a day: work that is not done yet must outlive every outage",
            );
        }
        if self.replica_ttl < Duration::from_secs(2) {
            return wrong("replica_ttl is less than 2s: replicas say once a second that they live");
        }
        if usize::try_from(body).is_ok_and(|body| body < document) {
            let text = format!(
                "body_limit {body} is less than document_limit {document}: a document is part of a body"
            );
            return Err(SettingsError::Wrong("settings".into(), text));
        }
        Ok(())
    }

    fn check_listen(&self) -> Result<(), SettingsError> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let text = format!(
            "listen {} is not a loopback address: there are no tokens to tell callers apart, so whoever reaches the \
             port could start builds; listen on 127.0.0.1 and put a proxy that asks for credentials before it",
            self.listen
        );
        Err(SettingsError::Wrong("settings".into(), text))
    }

    /// A neighbour that the service cannot run without.
    pub fn needed<'a>(
        name: &str,
        endpoint: Option<&'a Endpoint>,
    ) -> Result<&'a Endpoint, SettingsError> {
        endpoint.ok_or_else(|| {
            let variable = format!("FEEDSME_{}__URL", name.to_ascii_uppercase());
            let text = format!(
                "{name}.url is not set: name it in {DEFAULT_FILE}, by {variable} or --{}-url",
                flag_name(name)
            );
            SettingsError::Wrong("settings".into(), text)
        })
    }
}

/// The flag of a setting: `build_service.url` → `build-service-url`.
pub fn flag_name(path: &str) -> String {
    path.replace(['.', '_'], "-")
}

/// The settings that have a flag of their own, with what it says in the help: every leaf.
pub fn flags() -> Vec<(String, &'static str)> {
    let plain = [
        (
            "listen",
            "Address to listen on (loopback) [default: 127.0.0.1:1337]",
        ),
        (
            "store",
            "Where state is kept [default: sqlite:feedsme.sqlite3]",
        ),
        (
            "retain",
            "How long finished changes and attempts are kept [default: 400d]",
        ),
        (
            "replica_ttl",
            "How long a replica may be silent before others take over its work [default: 10s]",
        ),
        ("cassandra.user", "User [default: that of the address]"),
        ("cassandra.password", "Password"),
        ("cassandra.password_file", "File that holds the password"),
        (
            "cassandra.ca_file",
            "PEM file: encrypt, and trust only its certificates",
        ),
        ("cassandra.data_center", "Data center of this replica"),
        (
            "cassandra.replication",
            "Replication of a keyspace that migrate makes: 3, or dc1:3,dc2:3 [default: 3]",
        ),
        (
            "environments",
            "Environments in the order of promotion [default: [\"dev\", \"test\", \"prod\"]]",
        ),
        (
            "increment",
            "How a rebuild's version is made: prerelease or patch [default: prerelease]",
        ),
        (
            "promote_without_line",
            "What a promotion without a release line sends: nothing or highest [default: nothing]",
        ),
        (
            "duplicate_window",
            "How long after its end a repeated promotion is a duplicate [default: 60s]",
        ),
        (
            "settle",
            "How long publishes share the wave of the first of them [default: 0s]",
        ),
        (
            "deadline",
            "How long after it was sent a parent is waited for [default: 30m]",
        ),
        (
            "confirm",
            "What counts as published: notice or outcome [default: notice]",
        ),
        (
            "approve_above",
            "A wave of more rebuilds waits for approval [default: no limit]",
        ),
        (
            "recover",
            "Whether lost notices of our own rebuilds are made up for [default: true]",
        ),
        (
            "edges",
            "Manifest fields that make edges [default: [\"dependencies\"]; also \"optional\", \"peer\"]",
        ),
        (
            "document_limit",
            "Largest document without attachments, in bytes [default: 1048576]",
        ),
        (
            "body_limit",
            "Largest request body, in bytes [default: 500000000]",
        ),
        (
            "shutdown_grace",
            "How long a stop waits for what is being sent [default: 25s]",
        ),
        ("log", "What is logged [default: info]"),
        (
            "log_format",
            "How it is logged: text or json [default: text]",
        ),
    ];
    let mut flags: Vec<(String, &'static str)> = plain
        .iter()
        .map(|(name, help)| ((*name).to_owned(), *help))
        .collect();
    for neighbour in ["build_service", "warehouse", "registry"] {
        let of = |leaf: &str, help: &'static str| (format!("{neighbour}.{leaf}"), help);
        flags.extend([
            of("url", "Its address"),
            of("token", "Sent to it as a bearer token"),
            of("token_file", "File that holds the token"),
            of("user", "name:password, sent to it as Basic"),
            of(
                "ca_file",
                "PEM file of certificates to trust beside the system's",
            ),
            of("concurrency", "Requests under way at once [default: 20]"),
            of(
                "connect_timeout",
                "How long a connection may take [default: 10s]",
            ),
            of("idle_timeout", "How long nothing may move [default: 60s]"),
        ]);
    }
    flags
}

fn read_file(file: Option<&Path>) -> Result<Table, SettingsError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Table::new());
        }
        Err(error) => return Err(SettingsError::Unreadable(path.display().to_string(), error)),
    };
    // Read alone first: a mistake is then shown with its line.
    let wrong = |error: toml::de::Error| {
        SettingsError::Wrong(
            format!("settings file {}", path.display()),
            format!("\n{error}"),
        )
    };
    toml::from_str::<Settings>(&text).map_err(wrong)?;
    toml::from_str(&text).map_err(wrong)
}

/// Tries a variable or flag by itself, so that the error can name it.
fn check(path: &str, value: &str, source: &str) -> Result<(), SettingsError> {
    let mut alone = Table::new();
    // A neighbour is not complete without its address; that is checked when all sources are together.
    if let Some((neighbour, _)) = path
        .split_once('.')
        .filter(|(of, leaf)| *leaf != "url" && *of != "cassandra")
    {
        put(&mut alone, &format!("{neighbour}.url"), "http://localhost");
    }
    put(&mut alone, path, value);
    let read: Result<Settings, toml::de::Error> = alone.try_into();
    read.map(|_| ())
        .map_err(|error| SettingsError::Wrong(source.to_owned(), short(&error)))
}

fn short(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

/// Puts a value at its path. It is read as TOML (numbers, lists, booleans), else it is text.
fn put(table: &mut Table, path: &str, text: &str) {
    let mut table = table;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            table.insert(part.to_owned(), value(path, text));
            return;
        }
        let entry = table
            .entry(part.to_owned())
            .or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(next) = entry else { return };
        table = next;
    }
}

fn value(path: &str, text: &str) -> Value {
    // What is always text must not become a number because it looks like one.
    let leaf = path.rsplit('.').next().unwrap_or(path);
    if matches!(
        leaf,
        "token"
            | "user"
            | "password"
            | "password_file"
            | "data_center"
            | "replication"
            | "token_file"
            | "ca_file"
            | "url"
            | "store"
            | "log"
            | "listen"
    ) {
        return Value::String(text.to_owned());
    }
    let parsed: Option<Value> = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value) if !value.is_datetime() => value,
        _ if leaf == "environments" || leaf == "edges" => Value::Array(
            text.split(',')
                .map(|one| Value::String(one.trim().to_owned()))
                .collect(),
        ),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let none = tempfile::NamedTempFile::new().unwrap();
        Settings::load(Some(none.path()), own(variables).into_iter(), &own(flags))
    }

    #[test]
    fn the_later_source_wins() {
        let settings = load(
            &[
                ("FEEDSME_LISTEN", "127.0.0.1:2000"),
                ("FEEDSME_BUILD_SERVICE__URL", "http://a"),
                ("HOME", "/x"),
            ],
            &[
                ("build_service.url", "http://u:p@b"),
                ("build_service.concurrency", "3"),
            ],
        )
        .unwrap();
        assert_eq!(settings.listen.port(), 2000);
        let endpoint = settings.build_service.as_ref().unwrap();
        assert_eq!(
            (endpoint.url.reveal(), endpoint.concurrency),
            ("http://u:p@b", 3)
        );
        let shown = toml::to_string(&settings).unwrap();
        assert!(
            shown.contains("http://***@b") && !shown.contains("u:p"),
            "{shown}"
        );
    }

    #[test]
    fn every_flag_is_a_setting_and_every_default_reads_back() {
        for (name, _) in flags() {
            let value = match name.rsplit('.').next().unwrap() {
                "listen" => "127.0.0.1:1",
                "store" => "sqlite:x",
                "environments" => "a,b",
                "increment" => "patch",
                "promote_without_line" => "highest",
                "edges" => "[\"dependencies\", \"peer\"]",
                "replication" => "3",
                "retain" => "40d",
                "settle" | "deadline" | "duplicate_window" | "replica_ttl" | "shutdown_grace"
                | "connect_timeout" | "idle_timeout" => "5s",
                "document_limit" | "concurrency" | "approve_above" => "7",
                "confirm" => "outcome",
                "recover" => "false",
                "body_limit" => "7000000",
                "log_format" => "json",
                _ => "text",
            };
            let neighbour = name
                .split_once('.')
                .filter(|(neighbour, _)| *neighbour != "cassandra")
                .map(|(neighbour, _)| format!("{neighbour}.url"));
            let mut flags: Vec<(&str, &str)> = neighbour
                .iter()
                .map(|url| (url.as_str(), "http://a"))
                .collect();
            flags.push((&name, value));
            load(&[], &flags).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let shown = toml::to_string(&Settings::default()).unwrap();
        toml::from_str::<Settings>(&shown).unwrap();
    }

    #[test]
    fn mistakes_name_their_source() {
        let wrong = |variables: &[(&str, &str)], flags: &[(&str, &str)]| {
            load(variables, flags).unwrap_err().to_string()
        };
        assert!(wrong(&[("FEEDSME_LISEN", "x")], &[]).contains("variable FEEDSME_LISEN"));
        assert!(wrong(&[], &[("duplicate_window", "soon")]).contains("flag --duplicate-window"));
        assert!(wrong(&[("FEEDSME_STORE", "mysql:x")], &[]).contains("sqlite:PATH"));
        assert!(wrong(&[("FEEDSME_LISTEN", "0.0.0.0:80")], &[]).contains("loopback"));
        assert!(wrong(&[("FEEDSME_EDGES", "[\"peer\"]")], &[]).contains("dependencies"));
        assert!(wrong(&[("FEEDSME_ENVIRONMENTS", "[]")], &[]).contains("at least one environment"));
        for store in [
            "sqlite::memory:",
            "sqlite:",
            "sqlite:file::memory:",
            "sqlite:file:x",
            "sqlite:/tmp/",
        ] {
            let error = wrong(&[], &[("store", store)]);
            assert!(
                error.contains("flag --store") && error.contains("names no file"),
                "{error}"
            );
        }
        let error = wrong(&[("FEEDSME_REGISTRY__CONCURRENCY", "0")], &[]);
        assert!(
            error.contains("FEEDSME_REGISTRY__CONCURRENCY") && error.contains("at least 1"),
            "{error}"
        );
        assert!(wrong(&[], &[("document_limit", "0")]).contains("--document-limit: must be"));
        let limits = [("document_limit", "5001"), ("body_limit", "5000")];
        assert!(wrong(&[], &limits).contains("body_limit 5000 is less than document_limit 5001"));
        load(&[], &[("document_limit", "5000"), ("body_limit", "5000")]).unwrap();
        let error = wrong(&[("FEEDSME_ENVIRONMENTS", "dev,staging")], &[]);
        assert!(
            error.contains("environment \"staging\"") && error.contains("\"test\""),
            "{error}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "listen = \"127.0.0.1:1\"\nlisten_on = 3\n").unwrap();
        let error = Settings::load(Some(file.path()), std::iter::empty(), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("listen_on"),
            "{error}"
        );
    }
}
