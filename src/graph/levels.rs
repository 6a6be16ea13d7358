//! The order of what a walk through the [`Index`](super::Index) has found: that of [`super::order`] (rules 15, 16), in linear
//! time and on the walk's own numbers.
//!
//! Components come from Tarjan's algorithm (without recursion: chains are long), then one pass along them counts levels.
//! Numbers are given in the order of the walk, so inside a component they rise with the distance from the origin, which is what
//! decides who waits for whom there. [`super::order`] does the same for waves of any start; this one
//! takes milliseconds where a hundred thousand are reached.

use super::index::NONE;

/// Who leads to whom, by the walk's numbers.
#[derive(Default)]
pub(super) struct Edges {
    /// Where each node's edges end.
    pub ends: Vec<u32>,
    pub targets: Vec<u32>,
}

impl Edges {
    fn span(&self, node: usize) -> (u32, u32) {
        let start = if node == 0 { 0 } else { self.ends[node - 1] };
        (start, self.ends[node])
    }

    pub fn of(&self, node: usize) -> &[u32] {
        let (start, end) = self.span(node);
        &self.targets[start as usize..end as usize]
    }
}

/// Levels and components of a walk (rule 16).
pub(super) struct Order {
    /// By place.
    pub nodes: Vec<Node>,
    /// Components of more than one.
    pub circles: usize,
}

/// What is known of a member; together, because it is looked at together.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub level: u32,
    distance: u32,
    /// The number of its component; `NONE`: not found yet.
    component: u32,
    /// When Tarjan's algorithm met it, from 1; 0: not yet.
    met: u32,
    /// The earliest met of those that it leads back to.
    low: u32,
}

impl Order {
    pub fn of(edges: &Edges, distances: &[u32]) -> Self {
        let node = |&distance: &u32| Node {
            level: 0,
            distance,
            component: NONE,
            met: 0,
            low: 0,
        };
        let mut order = Self {
            nodes: distances.iter().map(node).collect(),
            circles: 0,
        };
        for place in order.find_components(edges).into_iter().rev() {
            let parent = order.nodes[place as usize];
            for &target in edges.of(place as usize) {
                let child = &mut order.nodes[target as usize];
                if parent.is_waited_by(child) {
                    child.level = child.level.max(parent.level + 1);
                }
            }
        }
        order
    }

    /// Whether the child waits for the parent, if there is an edge.
    pub fn is_waited(&self, parent: usize, child: usize) -> bool {
        self.nodes[parent].is_waited_by(&self.nodes[child])
    }

    /// Tarjan's algorithm from the origin, which leads to all. Returns all members: components in an order in which edges
    /// between them lead backwards, inside one the farthest first.
    fn find_components(&mut self, edges: &Edges) -> Vec<u32> {
        let mut sequence: Vec<u32> = Vec::with_capacity(self.nodes.len());
        let mut stack: Vec<u32> = Vec::new();
        // Members under way, each with where the rest of its edges begins and where they end.
        let mut path: Vec<(u32, u32, u32)> = Vec::new();
        let (mut clock, mut number) = (0, 0);
        let mut next = Some(0);
        loop {
            if let Some(place) = next.take() {
                clock += 1;
                let node = &mut self.nodes[place as usize];
                (node.met, node.low) = (clock, clock);
                stack.push(place);
                let (start, end) = edges.span(place as usize);
                path.push((place, start, end));
            }
            let Some((place, start, end)) = path.last_mut() else {
                return sequence;
            };
            let at = *place as usize;
            let mut low = self.nodes[at].low;
            while *start < *end && next.is_none() {
                let target = edges.targets[*start as usize];
                *start += 1;
                let to = &self.nodes[target as usize];
                if to.met == 0 {
                    next = Some(target);
                } else if to.component == NONE {
                    low = low.min(to.met);
                }
            }
            self.nodes[at].low = low;
            if next.is_some() {
                continue;
            }
            path.pop();
            if let Some(&(above, ..)) = path.last() {
                let above = &mut self.nodes[above as usize];
                above.low = above.low.min(low);
            }
            if low == self.nodes[at].met {
                let first = sequence.len();
                while let Some(member) = stack.pop() {
                    self.nodes[member as usize].component = number;
                    sequence.push(member);
                    if member as usize == at {
                        break;
                    }
                }
                if sequence.len() - first > 1 {
                    self.circles += 1;
                    // Places rise with the distance.
                    sequence[first..].sort_unstable_by(|one, other| other.cmp(one));
                }
                number += 1;
            }
        }
    }
}

impl Node {
    fn is_waited_by(&self, child: &Self) -> bool {
        self.component != child.component || self.distance < child.distance
    }
}
