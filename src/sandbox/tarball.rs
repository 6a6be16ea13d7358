//! Tarballs that cost no memory: their bytes are computed from (name, version, size) whenever they are asked for.

use super::digest::{Digests, Hashes};
use bytes::Bytes;
use std::sync::OnceLock;

/// Bytes made at once.
const BLOCK: u64 = 64 * 1024;

/// The tarball of a version given to the registry.
#[derive(Debug, Clone)]
pub enum Tarball {
    /// This many bytes, always the same for the same name, version and size. They are noise, not a gzipped tar.
    Synthetic(u64),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// None: the packument lists the version, the tarball is answered 404.
    Missing,
}

/// A tarball in the registry, shared by all versions that have the same bytes.
#[derive(Debug)]
pub(super) struct Stored {
    source: Source,
    digests: OnceLock<Digests>,
}

#[derive(Debug)]
enum Source {
    Synthetic { seed: u64, size: u64 },
    Bytes(Bytes),
    Missing,
}

impl Stored {
    pub(super) fn new(name: &str, version: &str, tarball: Tarball) -> Self {
        let source = match tarball {
            Tarball::Synthetic(size) => Source::Synthetic {
                seed: seed(name, version),
                size,
            },
            Tarball::Bytes(bytes) => Source::Bytes(bytes.into()),
            Tarball::Missing => Source::Missing,
        };
        Self {
            source,
            digests: OnceLock::new(),
        }
    }

    /// Bytes; None if there is no tarball.
    pub(super) fn size(&self) -> Option<u64> {
        match &self.source {
            Source::Synthetic { size, .. } => Some(*size),
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::Missing => None,
        }
    }

    /// The block that begins at byte `from` (a multiple of the block size, or 0); None at the end.
    pub(super) fn block(&self, from: u64) -> Option<Bytes> {
        let size = self.size()?;
        if from >= size {
            return None;
        }
        let length = BLOCK.min(size - from);
        match &self.source {
            Source::Synthetic { seed, .. } => Some(noise(*seed, from, length)),
            Source::Bytes(bytes) => {
                let from = usize::try_from(from).ok()?;
                Some(bytes.slice(from..from + usize::try_from(length).ok()?))
            }
            Source::Missing => None,
        }
    }

    /// Hashes of the bytes, computed once; of nothing if there is no tarball.
    pub(super) fn digests(&self) -> &Digests {
        self.digests.get_or_init(|| {
            let mut hashes = Hashes::default();
            while let Some(block) = self.block(hashes.length) {
                hashes.update(&block);
            }
            hashes.finish()
        })
    }
}

/// FNV-1a, so that the bytes stay the same from build to build.
fn seed(name: &str, version: &str) -> u64 {
    let text = format!("{name}@{version}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Splitmix64 over the word's number: any block can be made without those before it.
fn noise(seed: u64, from: u64, length: u64) -> Bytes {
    let mut bytes = Vec::new();
    for word in from / 8..(from + length).div_ceil(8) {
        let mut z = seed.wrapping_add(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    bytes.into()
}

/// All bytes of [`Tarball::Synthetic`], for a test that wants to compare.
pub fn synthetic(name: &str, version: &str, size: u64) -> Vec<u8> {
    let stored = Stored::new(name, version, Tarball::Synthetic(size));
    let mut bytes = Vec::new();
    while let Some(block) = stored.block(bytes.len() as u64) {
        bytes.extend_from_slice(&block);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_bytes_depend_on_name_and_version_and_nothing_else() {
        for size in [0, 1, 7, 8, 65_535, 65_536, 65_537, 200_001] {
            let bytes = synthetic("a", "1.0.0", size);
            assert_eq!(bytes.len() as u64, size);
            assert_eq!(bytes, synthetic("a", "1.0.0", size));
            assert_eq!(
                bytes[..],
                synthetic("a", "1.0.0", 300_000)[..bytes.len()],
                "{size}"
            );
        }
        assert_ne!(synthetic("a", "1.0.0", 99), synthetic("a", "1.0.1", 99));
        assert_ne!(synthetic("a", "1.0.0", 99), synthetic("b", "1.0.0", 99));
    }

    #[test]
    fn digests_are_those_of_the_bytes() {
        let stored = Stored::new("a", "1.0.0", Tarball::Synthetic(100_000));
        let mut hashes = Hashes::default();
        hashes.update(&synthetic("a", "1.0.0", 100_000));
        assert_eq!(*stored.digests(), hashes.finish());
        let abc = Stored::new("a", "1.0.0", Tarball::Bytes(b"abc".to_vec()));
        assert_eq!(
            abc.digests().sha1,
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
