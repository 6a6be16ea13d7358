//! Setting `store`, and what belongs to Cassandra beside its address.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SettingsError;
use crate::ingest::Clock;
use crate::neighbours::endpoint::Secret;
use crate::store::cassandra::{Options, Replication};

const SQLITE: &str = "sqlite:PATH, such as sqlite:feedsme.sqlite3";
const CASSANDRA: &str = "cassandra://[USER@]HOST[:PORT][,HOST…]/KEYSPACE, such as cassandra://10.0.0.1,10.0.0.2/feedsme";

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StoreAddress {
    /// A file of this machine.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Whether a commit waits for the disk.
        synchronous: bool,
    },
    /// A keyspace that several replicas of the service may share.
    Cassandra {
        /// Contact points, `host` or `host:port`.
        hosts: Vec<String>,
        /// The keyspace.
        keyspace: String,
        /// The user that the address names.
        user: Option<String>,
        /// The password that the address names; better in `cassandra.password_file`.
        password: Option<Secret>,
    },
}

impl StoreAddress {
    /// A file, durable.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite {
            path: path.into(),
            synchronous: true,
        }
    }
}

impl TryFrom<String> for StoreAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return sqlite(&text, rest);
        }
        if let Some(rest) = text.strip_prefix("cassandra://") {
            return cassandra(rest);
        }
        Err(format!(
            "store {text:?} names no kind of store; it must be {SQLITE}, or {CASSANDRA}"
        ))
    }
}

fn sqlite(text: &str, rest: &str) -> Result<StoreAddress, String> {
    let right = format!("it must be {SQLITE}");
    let (path, option) = rest
        .split_once('?')
        .map_or((rest, None), |(path, option)| (path, Some(option)));
    let synchronous = match option {
        None | Some("synchronous=full") => true,
        Some("synchronous=off") => false,
        Some(other) => {
            return Err(format!(
                "store option {other:?} is unknown; it must be synchronous=full or synchronous=off"
            ));
        }
    };
    // SQLite would keep the first two in memory, each of our connections one of its own.
    let no_file = path.starts_with(':') || path.starts_with("file:") || path.ends_with('/');
    if path.is_empty() || no_file {
        return Err(format!("store {text:?} names no file; {right}"));
    }
    Ok(StoreAddress::Sqlite {
        path: PathBuf::from(path),
        synchronous,
    })
}

/// The text is not repeated in an error: there may be a password in it.
fn cassandra(rest: &str) -> Result<StoreAddress, String> {
    let right = format!("it must be {CASSANDRA}");
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, rest),
    };
    let (user, password) = match credentials.map(|one| one.split_once(':').unwrap_or((one, ""))) {
        None => (None, None),
        Some((user, password)) => (
            Some(user.to_owned()),
            Some(password)
                .filter(|password| !password.is_empty())
                .map(Secret::new),
        ),
    };
    let (hosts, keyspace) = rest
        .split_once('/')
        .ok_or_else(|| format!("store cassandra://… names no keyspace; {right}"))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if keyspace.is_empty() || keyspace.len() > 48 || !keyspace.chars().all(plain) {
        return Err(format!(
            "store cassandra://…/{keyspace}: a keyspace is at most 48 lower-case letters, digits and underscores; {right}"
        ));
    }
    let hosts: Vec<String> = hosts
        .split(',')
        .map(|host| host.trim().to_owned())
        .collect();
    if let Some(wrong) = hosts.iter().find(|host| !is_host(host)) {
        return Err(format!(
            "store cassandra://…: {wrong:?} is no host, or host:port; {right}"
        ));
    }
    Ok(StoreAddress::Cassandra {
        hosts,
        keyspace: keyspace.to_owned(),
        user,
        password,
    })
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without brackets has more of them.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let named = !host.is_empty() && !host.contains([' ', '?', '#', '%']);
    named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl From<StoreAddress> for String {
    fn from(address: StoreAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for StoreAddress {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path, synchronous } => {
                let option = if *synchronous { "" } else { "?synchronous=off" };
                write!(f, "sqlite:{}{option}", path.display())
            }
            Self::Cassandra {
                hosts,
                keyspace,
                user,
                password,
            } => {
                f.write_str("cassandra://")?;
                match (user, password) {
                    (Some(user), None) => write!(f, "{user}@")?,
                    (Some(user), Some(_)) => write!(f, "{user}:***@")?,
                    (None, _) => {}
                }
                write!(f, "{}/{keyspace}", hosts.join(","))
            }
        }
    }
}

/// Settings `cassandra.…`: how to get into the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CassandraSettings {
    /// The user; wins over the one of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file that holds the password; white space around it is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Encrypt, and trust only the certificates in this PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The data center of this replica: conditional writes are decided in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_center: Option<String>,
    /// What `feedsme migrate` makes a new keyspace with: a number of nodes, or data centers with theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<String>,
}

impl CassandraSettings {
    /// What is wrong in itself.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.password.is_some() && self.password_file.is_some() {
            return Err(wrong(
                "cassandra.password and cassandra.password_file are both set; set one of them",
            ));
        }
        self.replication().map(drop)
    }

    /// What a new keyspace is made with; three nodes unless something else is said.
    pub fn replication(&self) -> Result<Replication, SettingsError> {
        let text = self.replication.as_deref().unwrap_or("3");
        text.parse()
            .map_err(|error| wrong(format!("cassandra.{error}")))
    }

    /// The options of the store in `address`, a Cassandra one.
    pub fn options(
        &self,
        address: &StoreAddress,
        retain: std::time::Duration,
    ) -> Result<Option<Options>, SettingsError> {
        let StoreAddress::Cassandra {
            hosts,
            keyspace,
            user,
            password,
        } = address
        else {
            return Ok(None);
        };
        let from_file = self
            .password_file
            .as_ref()
            .map(|file| {
                std::fs::read_to_string(file)
                    .map(|text| text.trim().to_owned())
                    .map_err(|error| {
                        wrong(format!(
                            "cassandra.password_file {}: {error}",
                            file.display()
                        ))
                    })
            })
            .transpose()?;
        let revealed = |secret: &Secret| secret.reveal().to_owned();
        Ok(Some(Options {
            hosts: hosts.clone(),
            keyspace: keyspace.clone(),
            user: self.user.clone().or_else(|| user.clone()),
            password: from_file
                .or_else(|| self.password.as_ref().map(revealed))
                .or_else(|| password.as_ref().map(revealed)),
            ca_file: self.ca_file.clone(),
            data_center: self.data_center.clone(),
            clock: Clock::system(),
            retain,
        }))
    }
}

fn wrong(text: impl Into<String>) -> SettingsError {
    SettingsError::Wrong("settings".into(), text.into())
}

#[cfg(test)]
mod tests {
    use super::StoreAddress;

    fn read(text: &str) -> Result<String, String> {
        StoreAddress::try_from(text.to_owned()).map(|address| address.to_string())
    }

    #[test]
    fn addresses_read_back_without_their_password() {
        for same in [
            "sqlite:a b.sqlite3",
            "sqlite:/x/y?synchronous=off",
            "cassandra://10.0.0.1/feedsme",
            "cassandra://me@a.example,b.example:9043/k_2",
            "cassandra://[::1]:9042/k",
        ] {
            assert_eq!(read(same).as_deref(), Ok(same));
        }
        assert_eq!(
            read("cassandra://me:p@ss@h/k").as_deref(),
            Ok("cassandra://me:***@h/k")
        );
    }

    #[test]
    fn mistakes_say_what_is_right_and_show_no_password() {
        for wrong in [
            "cassandra://me:secret@h",
            "cassandra://me:secret@/k",
            "cassandra://me:secret@h:0/k",
            "cassandra://me:secret@h/K",
            "cassandra://me:secret@h,/k",
            "cassandra://h/k?x=1",
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("such as cassandra://"), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(read("redis://x").unwrap_err().contains("sqlite:PATH"));
    }
}
