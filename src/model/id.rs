//! Identities that the store keys by and that operators quote.
//!
//! They are text because they travel through URLs, headers and two stores; newtypes because mixing two of them up is
//! the easiest mistake to make here.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::name::PackageName;
use crate::semver::Version;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; ids are opaque to everybody but their maker.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Names one accepted change. A publish has the same id however often it is posted ([`ChangeId::of_publish`]).
    ChangeId
}
text_id! {
    /// Names a wave: everything that follows from one origin. A wave has the id of the change that opened it.
    WaveId
}
text_id! {
    /// Names one rebuild over all its attempts; sent as `Idempotency-Key`.
    RebuildId
}
text_id! {
    /// Lower-case hexadecimal SHA-256 of a stored document: what manifests and documents are keyed by (H19).
    Digest
}

impl ChangeId {
    /// The id of a publish: a hash of what it publishes, so that a second notice of it finds the first (rule 7). `tag` is
    /// the dist-tag if it is not `latest`: the same version under `latest` later is another change (rule 1).
    pub fn of_publish(name: &PackageName, version: &Version, tag: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"publish\0");
        hash.update(name.as_str().as_bytes());
        hash.update(b"\0");
        hash.update(version.to_string().as_bytes());
        if let Some(tag) = tag {
            hash.update(b"\0");
            hash.update(tag.as_bytes());
        }
        Self(format!("p-{}", hex(&hash.finalize()[..16])))
    }

    /// A new id for a promotion: promotions of one version may be repeated, so each post has its own (H13).
    pub fn of_promotion() -> Self {
        Self(format!("m-{}", uuid::Uuid::now_v7().simple()))
    }

    /// The id of a promotion that bears an `Idempotency-Key`: the same key, the same change (rule 13).
    pub fn of_promotion_with_key(
        name: &PackageName,
        version: &Version,
        env: &str,
        key: &str,
    ) -> Self {
        let mut hash = Sha256::new();
        for part in ["promotion", name.as_str(), &version.to_string(), env, key] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        Self(format!("m-{}", hex(&hash.finalize()[..16])))
    }
}

impl From<&ChangeId> for WaveId {
    fn from(id: &ChangeId) -> Self {
        Self(id.0.clone())
    }
}

impl WaveId {
    /// The wave of a rebuild by hand: with an `Idempotency-Key` the same each time, else a new one.
    pub fn by_hand(package: &PackageName, key: Option<&str>) -> Self {
        let Some(key) = key else {
            return Self(format!("b-{}", uuid::Uuid::now_v7().simple()));
        };
        let mut hash = Sha256::new();
        for part in ["by hand", package.as_str(), key] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        Self(format!("b-{}", hex(&hash.finalize()[..16])))
    }

    /// The one wave that brings a version of a late parent to those of a wave that went without it (H6).
    pub fn late_parent(wave: &Self, parent: &PackageName, version: &Version) -> Self {
        let mut hash = Sha256::new();
        for part in ["late", &wave.0, parent.as_str(), &version.to_string()] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        Self(format!("f-{}", hex(&hash.finalize()[..16])))
    }

    /// Where nodes are noted that a hold held back; no wave.
    pub fn held_by(hold: &str) -> Self {
        Self(format!("held-{hold}"))
    }
}

impl RebuildId {
    /// A new, unguessable, time-ordered id.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
