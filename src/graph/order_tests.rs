use proptest::prelude::*;

use super::order::{Order, Place, Role, order};

fn roles(nodes: usize, origins: &[usize]) -> Vec<Role> {
    let role = |node| {
        if origins.contains(&node) {
            Role::Origin
        } else {
            Role::Follower
        }
    };
    (0..nodes).map(role).collect()
}

fn place(waits_for: &[usize], cycle: &[usize], level: u32) -> Place {
    Place {
        waits_for: waits_for.to_vec(),
        cycle: cycle.to_vec(),
        level,
    }
}

#[test]
fn a_diamond_waits_for_both_sides() {
    let found = order(&roles(4, &[0]), &[(2, 3), (0, 1), (1, 3), (0, 2), (0, 1)]);
    assert_eq!(
        found,
        Order {
            places: vec![
                place(&[], &[], 0),
                place(&[0], &[], 1),
                place(&[0], &[], 1),
                place(&[1, 2], &[], 2)
            ],
            components: vec![],
            critical_path: vec![0, 1, 3],
        }
    );
}

#[test]
fn a_ladder_is_as_deep_as_its_longest_way() {
    // Each depends on both before it: the short ways must not make anybody early.
    let edges: Vec<(usize, usize)> = (1..20)
        .flat_map(|node: usize| [(node - 1, node), (node.saturating_sub(2), node)])
        .collect();
    let found = order(&roles(20, &[0]), &edges);
    for (node, place) in (0..).zip(&found.places) {
        assert_eq!(place.level, node);
    }
    assert_eq!(found.critical_path, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_chain_of_a_hundred_thousand_does_not_end_the_stack() {
    let nodes = 100_000;
    let edges: Vec<(usize, usize)> = (1..nodes).map(|node| (node - 1, node)).collect();
    let found = order(&roles(nodes, &[0]), &edges);
    assert_eq!(found.places[nodes - 1].level, 99_999);
    assert_eq!(found.critical_path.len(), nodes);
}

#[test]
fn rule_16_a_cycle_of_any_size_is_gone_round_once() {
    for size in 2..=26 {
        // The origin enters at 1; the last leads back to 1.
        let edges: Vec<(usize, usize)> = (1..=size)
            .map(|node| (node - 1, node))
            .chain([(size, 1)])
            .collect();
        let found = order(&roles(size + 1, &[0]), &edges);
        assert_eq!(found.places[1], place(&[0], &[size], 1));
        for node in 2..=size {
            let level = u32::try_from(node).unwrap();
            assert_eq!(found.places[node], place(&[node - 1], &[], level));
        }
        assert_eq!(found.components, [(1..=size).collect::<Vec<_>>()]);
    }
}

#[test]
fn rule_16_inside_a_component_only_what_leads_away_is_waited_for() {
    // 1 and 2 are as near to the origin as each other: neither waits for the other.
    let found = order(&roles(4, &[0]), &[(0, 1), (0, 2), (1, 2), (2, 1), (2, 3)]);
    assert_eq!(found.places[1], place(&[0], &[2], 1));
    assert_eq!(found.places[2], place(&[0], &[1], 1));
    assert_eq!(found.places[3], place(&[2], &[], 2));
    assert_eq!(found.components, [[1, 2]]);
}

#[test]
fn rule_16_nobody_waits_for_itself() {
    let found = order(&roles(3, &[0]), &[(0, 0), (0, 1), (1, 1), (1, 2)]);
    assert_eq!(found.places[0], place(&[], &[], 0), "an origin");
    assert_eq!(found.places[1], place(&[0], &[1], 1));
    assert_eq!(found.components, [[1]]);
}

#[test]
fn an_origin_inside_a_cycle_cuts_it() {
    let found = order(&roles(4, &[1]), &[(0, 1), (1, 2), (2, 3), (3, 0)]);
    assert_eq!(found.places[1], place(&[], &[], 0));
    assert_eq!(found.places[0], place(&[3], &[], 3));
    assert!(found.components.is_empty());
    assert_eq!(found.critical_path, [1, 2, 3, 0]);
}

#[test]
fn several_origins_each_wait_for_none() {
    let found = order(
        &roles(4, &[0, 1]),
        &[(0, 1), (1, 0), (0, 2), (1, 3), (2, 3)],
    );
    assert_eq!(found.places[1], place(&[], &[], 0));
    assert_eq!(found.places[3], place(&[1, 2], &[], 2));
    assert_eq!(found.critical_path, [0, 2, 3]);
}

#[test]
fn a_seed_is_reached_without_a_parent() {
    use Role::{Follower, Seed};
    let found = order(&[Follower, Seed, Follower], &[(1, 2), (2, 0), (0, 1)]);
    assert_eq!(found.places[1], place(&[], &[0], 1));
    assert_eq!(found.places[2], place(&[1], &[], 2));
    assert_eq!(found.places[0], place(&[2], &[], 3));
    assert_eq!(found.critical_path, [1, 2, 0]);
}

/// Who can be reached from whom, by brute force.
fn closure(nodes: usize, edges: &[(usize, usize)]) -> Vec<Vec<bool>> {
    let mut reach = vec![vec![false; nodes]; nodes];
    for &(parent, child) in edges {
        reach[parent][child] = true;
    }
    for through in 0..nodes {
        for from in 0..nodes {
            for to in 0..nodes {
                reach[from][to] |= reach[from][through] && reach[through][to];
            }
        }
    }
    reach
}

fn graphs() -> impl Strategy<Value = (Vec<Role>, Vec<(usize, usize)>)> {
    (1_usize..14).prop_flat_map(|nodes| {
        let role = prop_oneof![
            2 => Just(Role::Origin),
            1 => Just(Role::Seed),
            9 => Just(Role::Follower)
        ];
        (
            prop::collection::vec(role, nodes),
            prop::collection::vec((0..nodes, 0..nodes), 0..nodes * 3),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_order_keeps_its_laws((roles, edges) in graphs(), mix in any::<prop::sample::Index>()) {
        let nodes = roles.len();
        let found = order(&roles, &edges);
        let counted: Vec<(usize, usize)> = edges
            .iter()
            .copied()
            .filter(|&(_, child)| roles[child] != Role::Origin)
            .collect();
        let reach = closure(nodes, &counted);

        // Each edge is in exactly one of the two lists, and nothing else is.
        let mut listed = Vec::new();
        let mut waited = Vec::new();
        for (child, place) in found.places.iter().enumerate() {
            waited.extend(place.waits_for.iter().map(|&parent| (parent, child)));
            listed.extend(place.cycle.iter().map(|&parent| (parent, child)));
        }
        listed.extend(&waited);
        listed.sort_unstable();
        let mut given = counted.clone();
        given.sort_unstable();
        given.dedup();
        prop_assert_eq!(&listed, &given);

        // The waited graph has no cycle.
        let waits = closure(nodes, &waited);
        prop_assert!((0..nodes).all(|node| !waits[node][node]));

        // Every edge between different components is waited for.
        for &(parent, child) in &counted {
            if !reach[child][parent] {
                prop_assert!(waited.contains(&(parent, child)));
            }
        }

        // Whoever is reached waits for somebody, and through those for a start.
        let starts: Vec<usize> = (0..nodes).filter(|&node| roles[node] != Role::Follower).collect();
        for node in (0..nodes).filter(|&node| roles[node] == Role::Follower) {
            if starts.iter().any(|&start| reach[start][node]) {
                prop_assert!(starts.iter().any(|&start| waits[start][node]));
            }
        }

        // Levels are what they say, and the critical path is a longest chain.
        for (node, place) in found.places.iter().enumerate() {
            let above = place.waits_for.iter().map(|&one| found.places[one].level).max();
            let expected = if roles[node] == Role::Origin { 0 } else { 1 + above.unwrap_or(0) };
            prop_assert_eq!(place.level, expected);
        }
        let path = &found.critical_path;
        prop_assert!(path.windows(2).all(|pair| waited.contains(&(pair[0], pair[1]))));
        let deepest = found.places.iter().map(|place| place.level).max().unwrap_or(0);
        prop_assert_eq!(path.last().map_or(0, |&last| found.places[last].level), deepest);
        if let Some(&first) = path.first() {
            prop_assert!(found.places[first].waits_for.is_empty());
        }

        // Components are those of the closure.
        for component in &found.components {
            prop_assert!(component.iter().all(|&one| component.iter().all(|&two| reach[one][two])));
        }
        let on_cycle = (0..nodes).filter(|&node| reach[node][node]).count();
        prop_assert_eq!(found.components.iter().map(Vec::len).sum::<usize>(), on_cycle);

        // The order of the edges does not matter.
        let mut other = edges.clone();
        if !other.is_empty() {
            other.rotate_left(mix.index(edges.len()));
            other.reverse();
            other.push(other[0]);
        }
        prop_assert_eq!(order(&roles, &other), found);
    }
}
