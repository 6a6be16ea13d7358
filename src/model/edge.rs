//! What a manifest's dependencies mean to us: one edge per package that it names, with the range that decides whether a
//! new version of that package concerns it (`design.md` rules 3 and 4).
//!
//! Real manifests hold git addresses, folders, aliases, workspace protocols and plain mistakes. None of them may fail a
//! change: what is no range becomes an edge that admits nothing, with a reason; what is no package becomes a note.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::PackageName;
use crate::semver::{Range, Version};

/// Which fields of a manifest count beside `dependencies` (rule 3, setting `edges`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeFields {
    /// `optionalDependencies`; they override an entry of the same name in `dependencies`.
    pub optional: bool,
    /// `peerDependencies`; an entry of the same name in `dependencies` overrides them.
    pub peer: bool,
}

/// "The manifest's package depends on `parent`, in these versions."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The package depended on; behind an alias the real one.
    pub parent: PackageName,
    /// The stored text, to be read with [`EdgeRange::of`]: an npm range, or the declared text of what is none.
    pub range: String,
}

/// What [`edges`] finds in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// In package.json order: `dependencies`, then `optionalDependencies`, then `peerDependencies`; a parent once, where it is first named.
    pub list: Vec<Edge>,
    /// What was left out, for people: `dependencies["a b"]: the name has …`.
    pub notes: Vec<String>,
}

/// The edges of a manifest (a package.json, or `versions[…]` of a publish document), by rules 3 and 4. Never fails: what cannot be an edge is a note.
pub fn edges(manifest: &Map<String, Value>, fields: EdgeFields) -> Edges {
    let mut found = Edges::default();
    let mut declared: Vec<(&str, &str, &str)> = Vec::new();
    let mut position: HashMap<&str, usize> = HashMap::new();
    // npm's precedence (Arborist): optional over dependencies over peer. The order of reading is the order of the result,
    // dependencies first, because the Node software's `dependent_of` knew no other field.
    for (field, counts, overrides) in [
        ("dependencies", true, true),
        ("optionalDependencies", fields.optional, true),
        ("peerDependencies", fields.peer, false),
    ] {
        if !counts {
            continue;
        }
        let entries = match manifest.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(entries)) => entries,
            Some(_) => {
                found.notes.push(format!("{field}: is not an object"));
                continue;
            }
        };
        for (key, spec) in entries {
            let Some(spec) = spec.as_str() else {
                found
                    .notes
                    .push(format!("{field}[{key:?}]: the range is not a string"));
                continue;
            };
            match position.get(key.as_str()) {
                Some(&at) if overrides => declared[at] = (field, key, spec),
                Some(_) => {}
                None => {
                    position.insert(key, declared.len());
                    declared.push((field, key, spec));
                }
            }
        }
    }
    let mut parents: HashMap<PackageName, usize> = HashMap::new();
    let mut parts: Vec<(PackageName, Vec<String>)> = Vec::new();
    let mut seen: HashSet<(usize, String)> = HashSet::new();
    for (field, key, spec) in declared {
        match resolve(key, spec) {
            Ok((parent, range)) => {
                let at = *parents.entry(parent.clone()).or_insert_with(|| {
                    parts.push((parent, Vec::new()));
                    parts.len() - 1
                });
                if seen.insert((at, range.clone())) {
                    parts[at].1.push(range);
                }
            }
            Err(why) => found.notes.push(format!("{field}[{key:?}]: {why}")),
        }
    }
    found.list = parts
        .into_iter()
        .map(|(parent, ranges)| Edge {
            parent,
            range: join(ranges),
        })
        .collect();
    found
}

/// Several declarations of one parent (rule 5): joined with ` || `; those that admit nothing stay only if all do.
fn join(mut ranges: Vec<String>) -> String {
    if ranges.len() > 1 && ranges.iter().any(|range| Range::parse(range).is_ok()) {
        ranges.retain(|range| Range::parse(range).is_ok());
    }
    ranges.join(" || ")
}

/// One entry of a dependencies object: the package that it names and the text to store.
fn resolve(key: &str, spec: &str) -> Result<(PackageName, String), String> {
    let spec = spec.trim();
    let (name, range) = if let Some(rest) = strip_protocol(spec, "npm:") {
        alias(key, rest.trim())
    } else if let Some(rest) = strip_protocol(spec, "workspace:") {
        let rest = rest.trim();
        match rest {
            "" | "*" | "^" | "~" => (key, "*"),
            _ if Range::parse(rest).is_ok() => (key, rest),
            // pnpm's alias, `workspace:NAME@RANGE`; yarn's `workspace:FOLDER` has no such form and stays as it is.
            _ => match split_alias(rest) {
                Some((name, "" | "*" | "^" | "~")) => (name, "*"),
                Some((name, range)) if Range::parse(range).is_ok() => (name, range),
                _ => (key, spec),
            },
        }
    } else {
        (key, spec)
    };
    let name = PackageName::parse(name).map_err(|why| {
        if name == key {
            format!("the name {why}")
        } else {
            format!("the name {name:?} {why}")
        }
    })?;
    let range = match range {
        "" | "latest" => "*",
        other => other,
    };
    Ok((name, range.to_owned()))
}

/// `npm:NAME@RANGE`, `npm:NAME`, and yarn's `npm:RANGE`, which names the key itself.
fn alias<'a>(key: &'a str, rest: &'a str) -> (&'a str, &'a str) {
    if let Some(split) = split_alias(rest) {
        return split;
    }
    let is_range = rest.is_empty() || Range::parse(rest).is_ok();
    let looks_like_a_name = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '@');
    if is_range && !looks_like_a_name {
        (key, rest)
    } else {
        (rest, "*")
    }
}

/// `NAME@RANGE` at the first `@` that does not begin a scope.
fn split_alias(text: &str) -> Option<(&str, &str)> {
    let at = text
        .char_indices()
        .skip(1)
        .find(|(_, c)| *c == '@')
        .map(|(at, _)| at)?;
    Some((text[..at].trim(), text[at + 1..].trim()))
}

fn strip_protocol<'a>(spec: &'a str, protocol: &str) -> Option<&'a str> {
    match spec.get(..protocol.len()) {
        Some(head) if head.eq_ignore_ascii_case(protocol) => Some(&spec[protocol.len()..]),
        _ => None,
    }
}

/// What a text that is no range is instead; the `Display` is the reason that a decision gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `git+ssh://…`, `github:user/repo`, `user/repo`, `git@host:path`, `https://….git`.
    Git,
    /// `https://…/x.tgz` and every other protocol with `//`.
    Url,
    /// `file:…`, `./x`, `../x`, `/x`, `~/x`, `x.tgz`, `workspace:FOLDER`.
    File,
    /// `link:…`, `portal:…`.
    Link,
    /// A dist-tag other than `latest`.
    Tag,
    /// A protocol of another tool: `catalog:`, `patch:`, `jsr:`.
    Protocol,
    /// None of these.
    Invalid,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Git => "a git address admits no version",
            Self::Url => "a URL admits no version",
            Self::File => "a file or folder admits no version",
            Self::Link => "a link admits no version",
            Self::Tag => "a dist-tag other than latest admits no version",
            Self::Protocol => "a protocol that npm does not know admits no version",
            Self::Invalid => "what is neither a range nor an address admits no version",
        })
    }
}

/// A stored range text, read back.
#[derive(Clone, Debug)]
pub enum EdgeRange {
    /// An npm range.
    Semver(Range),
    /// Something that admits no version, and what it is.
    Nothing(Form),
}

impl EdgeRange {
    /// Reads a stored text. Texts that another software stored (`latest`, the empty text) mean the same as in a manifest.
    pub fn of(stored: &str) -> Self {
        let text = match stored.trim() {
            "" | "latest" => "*",
            other => other,
        };
        match Range::parse(text) {
            Ok(range) => Self::Semver(range),
            // joined texts are there only if none of them admits anything: the first one speaks for all
            Err(_) => Self::Nothing(form(text.split(" || ").next().unwrap_or(text))),
        }
    }

    /// Whether `version` may be used; `origin` is the version published by hand that it descends from, for versions that we made.
    pub fn admits(&self, version: &Version, origin: Option<&Version>) -> bool {
        match self {
            Self::Semver(range) => range.admits(version, origin),
            Self::Nothing(_) => false,
        }
    }

    /// Why no version is ever admitted, if that is so: "a git address admits no version".
    pub fn nothing(&self) -> Option<Form> {
        match self {
            Self::Semver(_) => None,
            Self::Nothing(form) => Some(*form),
        }
    }
}

/// The order of tests is npm-package-arg's: files, aliases, hosted git, URLs, paths, tags.
fn form(text: &str) -> Form {
    let lower = text.to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| lower.starts_with(prefix));
    if starts(&["file:", "./", "../", "/", "~/", "workspace:"]) || [".", ".."].contains(&text) {
        return Form::File;
    }
    if starts(&["link:", "portal:"]) {
        return Form::Link;
    }
    if starts(&[
        "git+",
        "git:",
        "git@",
        "github:",
        "gitlab:",
        "bitbucket:",
        "gist:",
        "ssh:",
    ]) {
        return Form::Git;
    }
    if let Some((protocol, rest)) = lower.split_once(':') {
        if !protocol.is_empty()
            && protocol
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            let path = rest.split(['#', '?']).next().unwrap_or(rest);
            let hosted = ["//github.com/", "//gitlab.com/", "//bitbucket.org/"]
                .iter()
                .any(|host| {
                    path.starts_with(host) && !is_archive(path) && path.matches('/').count() == 4
                });
            return match () {
                () if path.strip_suffix(".git").is_some() || hosted => Form::Git,
                () if rest.starts_with("//") => Form::Url,
                () => Form::Protocol,
            };
        }
        // user@host:path, git's own short form
        if protocol.contains('@') && !protocol.contains(char::is_whitespace) {
            return Form::Git;
        }
    }
    if text.contains(char::is_whitespace) {
        return Form::Invalid;
    }
    if is_archive(&lower) {
        return Form::File;
    }
    // user/repo, with an optional #branch, is GitHub's short form; more slashes are a path
    let path = text.split('#').next().unwrap_or(text);
    match path.matches('/').count() {
        0 if !text.contains('#') && is_tag(text) => Form::Tag,
        1 if !path.starts_with('@') && !path.ends_with('/') => Form::Git,
        0 => Form::Invalid,
        _ => Form::File,
    }
}

fn is_archive(path: &str) -> bool {
    [".tgz", ".tar.gz", ".tar"]
        .iter()
        .any(|ending| path.ends_with(ending))
}

/// npm's test for a tag: `encodeURIComponent` changes nothing.
fn is_tag(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte))
}

#[cfg(test)]
#[path = "edge_tests.rs"]
mod tests;
