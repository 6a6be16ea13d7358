//! A hash that spreads texts evenly, the same on every replica and in every version: shards of work, buckets of tables and
//! owners depend on it, so it must never change.

/// FNV-1a, and then the end of `SplitMix64`: FNV alone leaves names that differ in their last letter next to each other.
pub fn spread(seed: u64, text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn names_that_differ_in_their_last_letters_go_to_different_places() {
        let mut counts = [0_u32; 64];
        for number in 0..6_400 {
            let place = spread(0, &format!("@scope/package-{number:04}")) % 64;
            counts[usize::try_from(place).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (60..=145).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn it_never_changes() {
        assert_eq!(spread(0, ""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(spread(7, "@s/c"), 0x08e6_7408_68ad_ce9b);
        assert_ne!(spread(7, "@s/c"), spread(8, "@s/c"));
    }
}
