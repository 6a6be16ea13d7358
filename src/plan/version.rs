//! Which version a rebuild gets (rule 9).

use super::Increment;
use crate::semver::{Release, Version};
use crate::store::Published;

/// What the store must be asked before [`next`]: the prefixes of version texts that may be taken.
pub fn prefixes(base: &Version, increment: Increment) -> Vec<String> {
    let mut prefixes = Vec::new();
    if let Ok(first) = base.inc(Release::Prerelease) {
        prefixes.push(format!(
            "{}.{}.{}-",
            first.major(),
            first.minor(),
            first.patch()
        ));
    }
    if increment == Increment::Patch {
        prefixes.push(format!("{}.{}.", base.major(), base.minor()));
    }
    prefixes
}

/// The next free version above `base`; `None` if the numbers end there (npm's limit is 2^53 - 1).
///
/// `taken` says whether a version of the package exists in any state: published, reserved, or ever given out.
/// `published` is only looked at for [`Increment::Patch`]: the patch increment is refused if the base is a prerelease
/// published by hand, or if a version published by hand lies between the base's origin and the new version.
pub fn next(
    base: &Version,
    origin: Option<&Version>,
    increment: Increment,
    taken: impl Fn(&Version) -> bool,
    published: &[Published],
) -> Option<Version> {
    if increment == Increment::Patch && !(base.is_prerelease() && origin.is_none()) {
        let from = origin.unwrap_or(base);
        let in_the_way = |new: &Version| {
            published
                .iter()
                .any(|one| one.origin.is_none() && one.version > *from && one.version <= *new)
        };
        if let Some(new) = free(base, Release::Patch, &taken).filter(|new| !in_the_way(new)) {
            return Some(new);
        }
    }
    free(base, Release::Prerelease, &taken)
}

fn free(base: &Version, release: Release, taken: &impl Fn(&Version) -> bool) -> Option<Version> {
    let mut version = base.inc(release).ok()?;
    while taken(&version) {
        version = version.inc(release).ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn hand(text: &str) -> Published {
        Published {
            version: v(text),
            origin: None,
            tag: None,
        }
    }

    #[test]
    fn rule_9_the_prerelease_increment_goes_on_until_it_is_free() {
        let taken = [v("5.0.1-0"), v("5.0.1-1")];
        let is_taken = |version: &Version| taken.contains(version);
        assert_eq!(
            next(&v("5.0.0"), None, Increment::Prerelease, is_taken, &[]),
            Some(v("5.0.1-2"))
        );
        assert_eq!(
            next(
                &v("5.0.1-0"),
                Some(&v("5.0.0")),
                Increment::Prerelease,
                is_taken,
                &[]
            ),
            Some(v("5.0.1-2"))
        );
        assert_eq!(
            next(
                &v("1.2.3-beta"),
                None,
                Increment::Prerelease,
                |_| false,
                &[]
            ),
            Some(v("1.2.3-beta.0"))
        );
        assert_eq!(prefixes(&v("5.0.0"), Increment::Prerelease), ["5.0.1-"]);
        assert_eq!(
            prefixes(&v("1.1.0-beta.0"), Increment::Prerelease),
            ["1.1.0-"]
        );
    }

    #[test]
    fn rule_9_the_patch_increment_gives_way_to_what_was_published_by_hand() {
        let free = |_: &Version| false;
        assert_eq!(
            next(&v("5.0.0"), None, Increment::Patch, free, &[hand("5.0.0")]),
            Some(v("5.0.1"))
        );
        let made = [
            hand("5.0.0"),
            Published {
                version: v("5.0.1"),
                origin: Some(v("5.0.0")),
                tag: None,
            },
        ];
        assert_eq!(
            next(
                &v("5.0.1"),
                Some(&v("5.0.0")),
                Increment::Patch,
                free,
                &made
            ),
            Some(v("5.0.2"))
        );
        let in_the_way = [hand("5.0.0"), hand("5.0.1")];
        assert_eq!(
            next(
                &v("5.0.0"),
                None,
                Increment::Patch,
                |x| *x == v("5.0.1"),
                &in_the_way
            ),
            Some(v("5.0.1-0"))
        );
        assert_eq!(
            next(&v("1.1.0-beta.0"), None, Increment::Patch, free, &[]),
            Some(v("1.1.0-beta.1"))
        );
    }
}
