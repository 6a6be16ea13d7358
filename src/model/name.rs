//! Package names become a type at the edge, because they end up in URLs, file names and primary keys: whoever holds a
//! [`PackageName`] needs no escaping rule but "encode the `@` and the `/` of a scope".
//!
//! The rule is that of npm's `validate-npm-package-name` for names that were published once ("old packages"), so capitals
//! and `~'!()*` are fine; its 214 characters are a limit here too, as the registry has it (`design.md` rule 1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::semver::Version;

/// The most characters a name has, scope included.
pub const MAX_LENGTH: usize = 214;

/// A valid npm package name, with its scope if it has one: `child`, `@s/child`. Cloning is one reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(Arc<str>);

/// The rule of npm that a text breaks as a package name; its `Display` completes "the name …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty text.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_LENGTH`].
    #[error("is longer than 214 characters")]
    TooLong,
    /// Begins or ends with white space.
    #[error("begins or ends with a space")]
    Spaces,
    /// `.x`, `@s/.x`.
    #[error("begins with a period")]
    LeadingPeriod,
    /// `_x`.
    #[error("begins with an underscore")]
    LeadingUnderscore,
    /// `node_modules` and `favicon.ico`, in any letter case.
    #[error("is reserved by npm")]
    Reserved,
    /// `@s`, `@s/`, `@/c`, `s/c`, `@s/c/d`.
    #[error("is neither NAME nor @SCOPE/NAME")]
    Scope,
    /// A character that a URL would have to escape.
    #[error("has characters other than letters, digits and -_.!~*'()")]
    Characters,
}

/// By byte, whether `encodeURIComponent` leaves it alone. A table, because each name is checked again whenever it is read
/// from the store.
const URL_SAFE: [bool; 256] = {
    let mut safe = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        safe[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'
            );
        byte += 1;
    }
    safe
};

fn is_url_safe(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() && URL_SAFE[usize::from(bytes[at])] {
        at += 1;
    }
    at == bytes.len()
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_LENGTH && text.chars().count() > MAX_LENGTH {
        return Err(NameError::TooLong);
    }
    if text.trim() != text {
        return Err(NameError::Spaces);
    }
    if text.starts_with('.') {
        return Err(NameError::LeadingPeriod);
    }
    if text.starts_with('_') {
        return Err(NameError::LeadingUnderscore);
    }
    if ["node_modules", "favicon.ico"]
        .iter()
        .any(|reserved| text.eq_ignore_ascii_case(reserved))
    {
        return Err(NameError::Reserved);
    }
    let bare = if let Some(scoped) = text.strip_prefix('@') {
        let (scope, bare) = scoped.split_once('/').ok_or(NameError::Scope)?;
        if scope.is_empty() || bare.is_empty() || bare.contains('/') {
            return Err(NameError::Scope);
        }
        if bare.starts_with('.') {
            return Err(NameError::LeadingPeriod);
        }
        if !is_url_safe(scope) {
            return Err(NameError::Characters);
        }
        bare
    } else if text.contains('/') {
        return Err(NameError::Scope);
    } else {
        text
    };
    if is_url_safe(bare) {
        Ok(())
    } else {
        Err(NameError::Characters)
    }
}

impl PackageName {
    /// Checks `text` against npm's rules; nothing is trimmed or changed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text).map(|()| Self(Arc::from(text)))
    }

    /// The whole name, scope included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope without `@`: `s` of `@s/child`.
    pub fn scope(&self) -> Option<&str> {
        self.0
            .strip_prefix('@')
            .and_then(|rest| rest.split_once('/'))
            .map(|(scope, _)| scope)
    }

    /// The name without its scope: `child` of `@s/child`. npm's own tarball files are called so.
    pub fn bare(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(self.as_str(), |(_, bare)| bare)
    }

    /// The key of the tarball in `_attachments`, which contains the scope: `@s/child-1.0.0.tgz` (contract.md 1.3, 2.4).
    pub fn attachment_key(&self, version: &Version) -> String {
        format!("{self}-{version}.tgz")
    }

    /// The tarball's file name in npm's registry, without the scope: `child-1.0.0.tgz`.
    pub fn tarball_file(&self, version: &Version) -> String {
        format!("{}-{version}.tgz", self.bare())
    }

    /// The name as one path segment of a URL, as `encodeURIComponent` writes it: `%40s%2Fchild` (contract.md 2.2, 2.4).
    pub fn url_segment(&self) -> String {
        self.0.replace('@', "%40").replace('/', "%2F")
    }
}

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for PackageName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check(&text).map(|()| Self(Arc::from(text)))
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.as_str().to_owned()
    }
}

impl AsRef<str> for PackageName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for PackageName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_1_valid_names_pass_and_come_back_unchanged() {
        for text in [
            "a",
            "some-package",
            "example.com",
            "under_score",
            "period.js",
            "123numeric",
            "crazy!",
            "CAPITAL-LETTERS",
            "JSONStream",
            "@npm/thingy",
            "@npm-zors/money!time.js",
            "@user/node_modules",
            "@user/_package",
            "@s/C",
            "http",
            "-",
            &"a".repeat(214),
        ] {
            let name = PackageName::parse(text).expect(text);
            assert_eq!(name.to_string(), text);
            let json = serde_json::to_string(&name).expect("a name is a string");
            assert_eq!(
                serde_json::from_str::<PackageName>(&json).expect("and reads back"),
                name
            );
        }
    }

    #[test]
    fn rule_1_invalid_names_say_which_rule_they_break() {
        for (text, error) in [
            ("", NameError::Empty),
            (&*"a".repeat(215), NameError::TooLong),
            (" a", NameError::Spaces),
            ("a\n", NameError::Spaces),
            (".a", NameError::LeadingPeriod),
            ("@s/.a", NameError::LeadingPeriod),
            ("@s/..", NameError::LeadingPeriod),
            ("..", NameError::LeadingPeriod),
            ("_a", NameError::LeadingUnderscore),
            ("node_modules", NameError::Reserved),
            ("Favicon.ico", NameError::Reserved),
            ("s/c", NameError::Scope),
            ("@s", NameError::Scope),
            ("@s/", NameError::Scope),
            ("@/c", NameError::Scope),
            ("@s/c/d", NameError::Scope),
            ("a b", NameError::Characters),
            ("a:b", NameError::Characters),
            ("a@b", NameError::Characters),
            ("@s/c@1", NameError::Characters),
            ("@é/c", NameError::Characters),
            ("é", NameError::Characters),
            ("a\0b", NameError::Characters),
            ("a%2Fb", NameError::Characters),
        ] {
            assert_eq!(PackageName::parse(text), Err(error), "{text:?}");
            assert!(
                serde_json::from_value::<PackageName>(serde_json::json!(text)).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn contract_2_4_tarball_names_of_plain_and_scoped_packages() {
        let version = Version::parse("5.0.1-0").expect("a version");
        let plain = PackageName::parse("child").expect("a name");
        assert_eq!(plain.attachment_key(&version), "child-5.0.1-0.tgz");
        assert_eq!(plain.tarball_file(&version), "child-5.0.1-0.tgz");
        assert_eq!((plain.scope(), plain.bare()), (None, "child"));
        assert_eq!(plain.url_segment(), "child");
        let scoped = PackageName::parse("@s/child").expect("a name");
        assert_eq!(scoped.attachment_key(&version), "@s/child-5.0.1-0.tgz");
        assert_eq!(scoped.tarball_file(&version), "child-5.0.1-0.tgz");
        assert_eq!((scoped.scope(), scoped.bare()), (Some("s"), "child"));
        assert_eq!(scoped.url_segment(), "%40s%2Fchild");
    }
}
