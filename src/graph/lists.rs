//! Lists of pairs, one list a number, packed into two long arrays: what a graph of a million edges is kept in.
//!
//! When it is made, the lists lie one after the other without a gap (a compressed sparse row array), so that a walk
//! reads memory in long pieces. A list that grows beyond its room moves to the end and gets twice as much; when half of
//! the arrays is left behind, everything is packed again. The two halves of a pair are apart, because a walk looks at the
//! first alone.

use super::index::narrow;

/// Where a list is.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
    room: u32,
}

/// Below so many places left behind nothing is packed again.
const SMALL: usize = 4_096;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    spans: Vec<Span>,
    firsts: Vec<u32>,
    seconds: Vec<u32>,
    left_behind: usize,
}

fn wide(number: u32) -> usize {
    number as usize
}

impl Lists {
    /// Lists of these (list, first, second), in `lists` lists; each keeps the order in which they come.
    pub fn of(lists: usize, entries: impl Iterator<Item = (u32, u32, u32)> + Clone) -> Self {
        let mut spans = vec![Span::default(); lists];
        let mut all = 0;
        for (list, ..) in entries.clone() {
            spans[wide(list)].room += 1;
            all += 1;
        }
        let mut start = 0;
        for span in &mut spans {
            span.start = start;
            start += span.room;
        }
        let (mut firsts, mut seconds) = (vec![0; all], vec![0; all]);
        for (list, first, second) in entries {
            let span = &mut spans[wide(list)];
            let at = wide(span.start + span.len);
            (firsts[at], seconds[at]) = (first, second);
            span.len += 1;
        }
        Self {
            spans,
            firsts,
            seconds,
            left_behind: 0,
        }
    }

    /// One more list, empty.
    pub fn add_list(&mut self) {
        self.spans.push(Span::default());
    }

    /// How many places the arrays have, used or not.
    pub fn places(&self) -> usize {
        self.firsts.len()
    }

    pub fn len(&self, list: u32) -> usize {
        wide(self.spans[wide(list)].len)
    }

    /// The first halves of a list.
    pub fn firsts(&self, list: u32) -> &[u32] {
        let Span { start, len, .. } = self.spans[wide(list)];
        &self.firsts[wide(start)..wide(start + len)]
    }

    /// The second halves of a list.
    pub fn seconds(&self, list: u32) -> &[u32] {
        let Span { start, len, .. } = self.spans[wide(list)];
        &self.seconds[wide(start)..wide(start + len)]
    }

    /// The pairs of a list.
    pub fn pairs(&self, list: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let firsts = self.firsts(list).iter().copied();
        firsts.zip(self.seconds(list).iter().copied())
    }

    /// Puts a pair at the end of a list.
    pub fn push(&mut self, list: u32, first: u32, second: u32) {
        let span = self.spans[wide(list)];
        if span.len == span.room {
            self.grow(list);
        }
        let span = &mut self.spans[wide(list)];
        let at = wide(span.start + span.len);
        (self.firsts[at], self.seconds[at]) = (first, second);
        span.len += 1;
    }

    fn grow(&mut self, list: u32) {
        if self.left_behind > SMALL && self.left_behind > self.firsts.len() / 2 {
            self.pack();
        }
        let Span { start, len, room } = self.spans[wide(list)];
        self.left_behind += wide(room);
        let old = wide(start)..wide(start + len);
        let new = Span {
            start: narrow(self.firsts.len()),
            len,
            room: (room * 2).max(4),
        };
        self.firsts.extend_from_within(old.clone());
        self.seconds.extend_from_within(old);
        let end = wide(new.start + new.room);
        self.firsts.resize(end, 0);
        self.seconds.resize(end, 0);
        self.spans[wide(list)] = new;
    }

    /// All lists one after the other, without a gap.
    fn pack(&mut self) {
        let all = self.spans.iter().map(|span| wide(span.len)).sum();
        let (mut firsts, mut seconds) = (Vec::with_capacity(all), Vec::with_capacity(all));
        for span in &mut self.spans {
            let old = wide(span.start)..wide(span.start + span.len);
            span.start = narrow(firsts.len());
            span.room = span.len;
            firsts.extend_from_slice(&self.firsts[old.clone()]);
            seconds.extend_from_slice(&self.seconds[old]);
        }
        (self.firsts, self.seconds, self.left_behind) = (firsts, seconds, 0);
    }

    /// Lets two pairs of a list change places.
    pub fn swap(&mut self, list: u32, one: usize, other: usize) {
        let start = wide(self.spans[wide(list)].start);
        self.firsts.swap(start + one, start + other);
        self.seconds.swap(start + one, start + other);
    }

    /// Takes the last pair off a list.
    pub fn pop(&mut self, list: u32) {
        let span = &mut self.spans[wide(list)];
        span.len = span.len.saturating_sub(1);
    }

    /// Empties a list; its room stays.
    pub fn clear(&mut self, list: u32) {
        self.spans[wide(list)].len = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Lists;

    proptest! {
        /// However they grow and shrink, they are what lists of their own would be.
        #[test]
        fn they_are_lists(ops in prop::collection::vec((0..6_u32, 0..8_u32, 0..60_u32), 0..400)) {
            let start: Vec<(u32, u32, u32)> = ops.iter().take(20).copied().filter(|op| op.0 < 3).map(|(a, b, c)| (a, c, b)).collect();
            let mut lists = Lists::of(3, start.iter().copied());
            let mut naive: Vec<Vec<(u32, u32)>> = (0..3).map(|of| {
                start.iter().filter(|one| one.0 == of).map(|one| (one.1, one.2)).collect()
            }).collect();
            for _ in 3..6 {
                lists.add_list();
                naive.push(Vec::new());
            }
            let mut peaks = [20; 6];
            for (list, kind, many) in ops {
                let own = &mut naive[list as usize];
                match kind {
                    0 => { lists.clear(list); own.clear(); }
                    1 => { lists.pop(list); own.pop(); }
                    2 if own.len() > 1 => { lists.swap(list, 0, own.len() - 1); let last = own.len() - 1; own.swap(0, last); }
                    _ => for number in 0..many * 20 {
                        lists.push(list, number, many);
                        own.push((number, many));
                    }
                }
                peaks[list as usize] = peaks[list as usize].max(naive[list as usize].len());
                prop_assert!(lists.places() <= 4 * (super::SMALL + peaks.iter().sum::<usize>()));
            }
            for (list, own) in (0..).zip(&naive) {
                prop_assert_eq!(&lists.pairs(list).collect::<Vec<_>>(), own);
                prop_assert_eq!(lists.len(list), own.len());
            }
        }
    }
}
