//! What waits for what (rules 15, 16): a graph with cycles becomes an order without one.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// What a node is to its wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// What the wave starts from; it is never sent in its wave, so edges into it do not count.
    Origin,
    /// Sent whatever its parents do: as near to the start as a child of an origin.
    Seed,
    /// Reached by its parents.
    Follower,
}

/// The place of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The parents that it waits for, ascending. Empty for an origin.
    pub waits_for: Vec<usize>,
    /// The parents that it does not wait for, because they lead back (rule 16), ascending.
    pub cycle: Vec<usize>,
    /// 0 for an origin; else 1 + the highest level among those that it waits for.
    pub level: u32,
}

/// The order of a wave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// One place a node, by its number.
    pub places: Vec<Place>,
    /// The strongly connected components that have more than one member, or one with an edge to itself; members and
    /// components ascending.
    pub components: Vec<Vec<usize>>,
    /// One longest chain in which each waits for the one before it, from an origin (or a seed that waits for nobody)
    /// on; among equally long ones the one of the lowest numbers from its end. Empty if there are only origins.
    pub critical_path: Vec<usize>,
}

/// Orders the nodes `0..roles.len()` of a wave along `edges`, each (parent, child); an edge that is given twice counts
/// once, one of a number that is no node does not count. The order in which edges are given does not matter.
///
/// An edge between two strongly connected components is waited for. Inside a component it is waited for iff the child
/// is farther from the nearest origin than the parent, in edges (H24); so an edge to itself never is. Edges into
/// origins are dropped before anything else.
///
/// **Nothing waits for itself, however indirectly.** Number the components so that edges between them lead to higher
/// numbers (their graph has no cycle, or they were one component), and give each node the pair (number of its
/// component, distance from the nearest origin). A waited edge between components raises the first part; one inside a
/// component keeps the first part and raises the second. So pairs strictly rise, in lexicographic order, along every
/// path of waited edges, and no path comes back to where it began.
///
/// **Every node that an origin or a seed reaches, other than a seed, waits for somebody:** for its parent on a
/// shortest path, which is either in another component or nearer.
pub fn order(roles: &[Role], edges: &[(usize, usize)]) -> Order {
    let nodes = roles.len();
    let mut edges: Vec<(usize, usize)> = edges
        .iter()
        .copied()
        .filter(|&(parent, child)| parent < nodes && child < nodes && roles[child] != Role::Origin)
        .collect();
    edges.sort_unstable();
    edges.dedup();

    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(nodes, edges.len());
    for _ in 0..nodes {
        graph.add_node(());
    }
    for &(parent, child) in &edges {
        graph.add_edge(NodeIndex::new(parent), NodeIndex::new(child), ());
    }
    let distance = distances(&graph, roles);
    // Kosaraju's, because petgraph's Tarjan recurses: a long chain would end the stack. Its components come children
    // first.
    let found = kosaraju_scc(&graph);
    let mut component = vec![0; nodes];
    for (number, members) in found.iter().rev().enumerate() {
        for member in members {
            component[member.index()] = number;
        }
    }

    let mut places = vec![Place::default(); nodes];
    for &(parent, child) in &edges {
        let waited = component[parent] != component[child] || distance[parent] < distance[child];
        let place = &mut places[child];
        let list = if waited {
            &mut place.waits_for
        } else {
            &mut place.cycle
        };
        list.push(parent);
    }
    // The pairs of the proof: every parent that is waited for comes before its child.
    let mut sequence: Vec<usize> = (0..nodes)
        .filter(|&node| roles[node] != Role::Origin)
        .collect();
    sequence.sort_unstable_by_key(|&node| (component[node], distance[node], node));
    for node in sequence {
        let above = places[node].waits_for.iter().map(|&one| places[one].level);
        places[node].level = 1 + above.max().unwrap_or(0);
    }

    let mut components: Vec<Vec<usize>> = found
        .into_iter()
        .map(|members| {
            let mut members: Vec<usize> = members.into_iter().map(NodeIndex::index).collect();
            members.sort_unstable();
            members
        })
        .filter(|members| {
            members.len() > 1 || edges.binary_search(&(members[0], members[0])).is_ok()
        })
        .collect();
    components.sort_unstable();
    Order {
        critical_path: longest(&places),
        components,
        places,
    }
}

/// How many edges each node is away from the nearest origin; a seed is never farther than 1. `u32::MAX`: not reached.
fn distances(graph: &DiGraph<(), ()>, roles: &[Role]) -> Vec<u32> {
    let with = |role: Role| (0..roles.len()).filter(move |&node| roles[node] == role);
    let mut distance = vec![u32::MAX; roles.len()];
    let mut frontier: Vec<usize> = with(Role::Origin).collect();
    for &origin in &frontier {
        distance[origin] = 0;
    }
    let mut seeds: Vec<usize> = with(Role::Seed).collect();
    let mut depth = 0;
    loop {
        depth += 1;
        let mut next = std::mem::take(&mut seeds);
        for &node in &frontier {
            next.extend(graph.neighbors(NodeIndex::new(node)).map(NodeIndex::index));
        }
        next.retain(|&node| {
            let new = distance[node] == u32::MAX;
            if new {
                distance[node] = depth;
            }
            new
        });
        if next.is_empty() {
            return distance;
        }
        frontier = next;
    }
}

/// One longest chain of waited edges, its beginning first.
fn longest(places: &[Place]) -> Vec<usize> {
    let deepest = (0..places.len())
        .filter(|&node| places[node].level > 0)
        .min_by_key(|&node| (std::cmp::Reverse(places[node].level), node));
    let before = |&node: &usize| {
        let place = &places[node];
        let mut parents = place.waits_for.iter().copied();
        parents.find(|&parent| places[parent].level + 1 == place.level)
    };
    let mut chain: Vec<usize> = std::iter::successors(deepest, before).collect();
    chain.reverse();
    chain
}
