//! Which packages to import from a registry.
//!
//! npm has no list of a scope's packages that every registry keeps. What there is, in the order in which it is asked:
//! `/-/org/SCOPE/package` and `/-/user/SCOPE/package` (npmjs.org: all packages that the token may see), then the search
//! `/-/v1/search` with `scope:SCOPE` (npmjs.org: public packages, at most some thousands, minutes behind) or `@SCOPE/`
//! (Verdaccio, which knows no qualifiers). Registries without any of them (GitLab) need a list of names.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::name::PackageName;
use crate::neighbours::{Failure, Registry};

/// The most that a search gives at once.
const PAGE: usize = 250;

/// The most that is asked of a search.
const MOST: usize = 10_000;

/// Names in a file: one a line; empty lines and what follows a `#` are left out.
///
/// # Errors
/// The number of the first line that is no name, and why.
pub fn listed(text: &str) -> Result<Vec<PackageName>, String> {
    let mut names = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let name = PackageName::parse(line)
            .map_err(|why| format!("line {}: {line:?} is no package name: it {why}", at + 1))?;
        names.push(name);
    }
    Ok(names)
}

/// The packages of a scope (`@s` or `s`) that the registry lists, and what listed them.
///
/// # Errors
/// What the registry said, or that it lists none.
pub async fn of_scope(
    registry: &Registry,
    scope: &str,
) -> Result<(Vec<PackageName>, String), String> {
    let bare = scope.strip_prefix('@').unwrap_or(scope);
    let prefix = format!("@{bare}/");
    if PackageName::parse(&format!("{prefix}a")).is_err() {
        return Err(format!("{scope:?} is no scope"));
    }
    let mut said = Vec::new();
    for list in ["org", "user"] {
        let path = format!("-/{list}/{bare}/package");
        match registry.json(&path).await {
            Ok(Some(answer)) => {
                let names = keys(&answer, &prefix);
                if !names.is_empty() {
                    return Ok((names.into_iter().collect(), format!("/{path}")));
                }
            }
            Ok(None) => {}
            Err(failure) => said.push(failure.message),
        }
    }
    for query in [format!("scope:{bare}"), prefix.clone()] {
        match search(registry, &query, &prefix).await {
            Ok(names) if !names.is_empty() => {
                let by = format!("the search for {query}, which may leave some out");
                return Ok((names.into_iter().collect(), by));
            }
            Ok(_) => {}
            Err(failure) => said.push(failure.message),
        }
    }
    said.dedup();
    let said = if said.is_empty() {
        String::new()
    } else {
        format!(" ({})", said.join("; "))
    };
    Err(format!(
        "the registry lists no packages of @{bare}{said}: name them, or list them in a file with --names"
    ))
}

async fn search(
    registry: &Registry,
    query: &str,
    prefix: &str,
) -> Result<BTreeSet<PackageName>, Failure> {
    let mut found = BTreeSet::new();
    let query = query.replace('@', "%40").replace('/', "%2F");
    let mut from = 0;
    while from < MOST {
        let path = format!("-/v1/search?text={query}&size={PAGE}&from={from}");
        let Some(answer) = registry.json(&path).await? else {
            break;
        };
        let (names, count) = results(&answer, prefix);
        let before = found.len();
        found.extend(names);
        // One that knows no `from` gives the same page for ever.
        if count == 0 || found.len() == before && from > 0 {
            break;
        }
        from += count;
    }
    Ok(found)
}

/// The names in an answer such as `{"@s/a": "write"}`.
fn keys(answer: &Value, prefix: &str) -> BTreeSet<PackageName> {
    let keys = answer.as_object().into_iter().flat_map(|all| all.keys());
    names(keys.map(String::as_str), prefix)
}

/// The names in an answer of the search, `{"objects": [{"package": {"name": "@s/a"}}]}`, and how many results there were.
fn results(answer: &Value, prefix: &str) -> (BTreeSet<PackageName>, usize) {
    let objects = answer["objects"].as_array().map_or(&[][..], Vec::as_slice);
    let found = objects
        .iter()
        .filter_map(|one| one["package"]["name"].as_str());
    (names(found, prefix), objects.len())
}

fn names<'a>(texts: impl Iterator<Item = &'a str>, prefix: &str) -> BTreeSet<PackageName> {
    texts
        .filter(|text| text.starts_with(prefix))
        .filter_map(|text| PackageName::parse(text).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(names: impl IntoIterator<Item = PackageName>) -> Vec<String> {
        names.into_iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_file_of_names() {
        let names = listed("root\n\n# all of ours\n @s/child  # the child\n").unwrap();
        assert_eq!(texts(names), ["root", "@s/child"]);
        let error = listed("root\nNo Name\n").unwrap_err();
        assert!(error.starts_with("line 2: \"No Name\" is no"), "{error}");
    }

    #[test]
    fn what_registries_answer() {
        let org = json!({"@s/b": "write", "@s/a": "read", "other": "write", "@t/a": "write", "@s/": "read"});
        assert_eq!(texts(keys(&org, "@s/")), ["@s/a", "@s/b"]);
        let search = json!({"objects": [{"package": {"name": "@s/a"}}, {"package": {"name": "@t/x"}}, {}], "total": 3});
        let (names, count) = results(&search, "@s/");
        assert_eq!((texts(names), count), (vec!["@s/a".to_owned()], 3));
        assert_eq!(results(&json!({"error": "no"}), "@s/").1, 0);
    }
}
