//! Contract: what decides about waves, their plans and members, and the one that collects.

use std::sync::Arc;

use feedsme::model::id::{ChangeId, RebuildId, WaveId};
use feedsme::model::package::{Cause, Kind, Millis};
use feedsme::model::wave::{PlanNode, Start, Wave, WaveMove, WaveState};
use feedsme::store::{Committed, Node, NodeKey, Store, Write};

use super::Place;
use super::fixtures::{change, change_id, env, name, planned, unique, version, wave};

fn cause(parent: &str) -> Cause {
    Cause {
        parent: name(parent),
        version: version("5.2.4-0"),
        origin: Some(version("5.2.3")),
    }
}

/// A wave with every field filled.
fn whole() -> Wave {
    Wave {
        id: wave(),
        env: env("dev"),
        kind: Kind::Publish,
        start: Start::Publish {
            first: name("root"),
            origins: vec![cause("@s/root"), cause("b")],
        },
        change: change_id(),
        promote: true,
        opened: 1_700_000_000_123,
        state: WaveState::Collecting,
        since: 1_700_000_000_124,
        plan: Some("first \"é\"".into()),
        nodes: 1_234,
        pending_on: vec![wave(), wave()],
    }
}

fn bare() -> Wave {
    Wave {
        state: WaveState::Planning,
        promote: false,
        plan: None,
        nodes: 0,
        pending_on: Vec::new(),
        ..whole()
    }
}

async fn get(store: &Arc<dyn Store>, id: &WaveId) -> Wave {
    store.wave(id).await.unwrap().unwrap()
}

fn to(from: WaveState, to: WaveState, at: Millis) -> WaveMove {
    WaveMove {
        from,
        to,
        at,
        plan: None,
    }
}

pub async fn a_wave_comes_back_whole_and_is_opened_once(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.wave(&wave()).await.unwrap(), None);
    let starts = [
        Start::Promotion {
            origin: cause("root"),
        },
        Start::LateParent {
            wave: wave(),
            parent: cause("late"),
            pair: true,
        },
        Start::HoldEnded {
            package: name("root"),
            hold: "h-1".into(),
        },
        Start::ByHand {
            package: name("@s/child"),
        },
    ];
    let states = [
        WaveState::Planning,
        WaveState::Awaiting,
        WaveState::Open,
        WaveState::Cancelled,
    ];
    let others = starts.into_iter().zip(states).map(|(start, state)| Wave {
        kind: Kind::Promotion,
        start,
        state,
        ..whole()
    });
    for one in others.chain([whole(), bare()]) {
        assert_eq!(store.open_wave(&one).await.unwrap(), Committed::Applied);
        assert_eq!(get(&store, &one.id).await, one);
        // Whoever comes later finds it as it is, also with the very same words.
        let other = Wave {
            env: env("prod"),
            opened: one.opened + 1,
            ..one.clone()
        };
        for again in [&one, &other] {
            assert_eq!(store.open_wave(again).await.unwrap(), Committed::Refused);
        }
        assert_eq!(get(&store, &one.id).await, one);
    }
}

pub async fn of_16_that_open_a_wave_exactly_one_does(place: &impl Place) {
    let store = place.open().await;
    for _ in 0..3 {
        let id = wave();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16 {
            let (store, id) = (Arc::clone(&store), id.clone());
            tasks.spawn(async move {
                let one = Wave {
                    id,
                    opened: 1_700_000_000_000 + task,
                    ..bare()
                };
                let answer = store.open_wave(&one).await.unwrap();
                (one, answer)
            });
        }
        let mut answers = tasks.join_all().await;
        answers.retain(|(_, answer)| *answer == Committed::Applied);
        assert_eq!(answers.len(), 1);
        assert_eq!(get(&store, &id).await, answers[0].0);
    }
}

pub async fn a_wave_moves_only_from_the_state_that_it_is_in(place: &impl Place) {
    let store = place.open().await;
    let step = to(WaveState::Open, WaveState::Closed, 1);
    let missing = wave();
    assert_eq!(
        store.move_wave(&missing, &step).await.unwrap(),
        Committed::Refused
    );
    assert_eq!(store.wave(&missing).await.unwrap(), None);

    let mut expected = Wave {
        state: WaveState::Collecting,
        ..bare()
    };
    let id = expected.id.clone();
    store.open_wave(&expected).await.unwrap();
    let way = [
        WaveState::Collecting,
        WaveState::Planning,
        WaveState::Awaiting,
        WaveState::Open,
        WaveState::Closed,
    ];
    for (at, pair) in (1_800_000_000_000..).zip(way.windows(2)) {
        for wrong in way.into_iter().filter(|state| *state != pair[0]) {
            let answer = store.move_wave(&id, &to(wrong, pair[1], at)).await.unwrap();
            assert_eq!(answer, Committed::Refused, "{wrong:?} to {:?}", pair[1]);
        }
        assert_eq!(get(&store, &id).await, expected);
        let mut step = to(pair[0], pair[1], at);
        (expected.state, expected.since) = (pair[1], at);
        if pair[1] == WaveState::Awaiting {
            step.plan = Some(("the plan".into(), 17));
            (expected.plan, expected.nodes) = (Some("the plan".into()), 17);
        }
        // The first time it is done, the second time it is not.
        assert_eq!(
            store.move_wave(&id, &step).await.unwrap(),
            Committed::Applied
        );
        assert_eq!(
            store.move_wave(&id, &step).await.unwrap(),
            Committed::Refused
        );
        assert_eq!(get(&store, &id).await, expected);
    }
}

pub async fn of_16_moves_from_one_state_exactly_one_is_applied(place: &impl Place) {
    let store = place.open().await;
    let one = bare();
    store.open_wave(&one).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_u32 {
        let (store, id) = (Arc::clone(&store), one.id.clone());
        tasks.spawn(async move {
            let step = WaveMove {
                plan: Some((format!("plan {task}"), task)),
                ..to(WaveState::Planning, WaveState::Open, 7)
            };
            (step.plan.clone(), store.move_wave(&id, &step).await)
        });
    }
    let mut answers = tasks.join_all().await;
    answers.retain(|(_, answer)| *answer.as_ref().unwrap() == Committed::Applied);
    assert_eq!(answers.len(), 1);
    let there = get(&store, &one.id).await;
    assert_eq!(there.state, WaveState::Open);
    assert_eq!(there.plan.zip(Some(there.nodes)), answers[0].0);
}

pub async fn waves_are_listed_newest_first_and_each_once(place: &impl Place) {
    let store = place.open().await;
    // A span of time that no other test uses, over several days.
    let start: Millis = 8_000_000_000_000 + Millis::from(uuid::Uuid::new_v4().as_fields().0) * 100;
    let hours = |hours: Millis| hours * 3_600_000;
    let mut expected = Vec::new();
    for at in 0..9 {
        // Two at a time.
        let opened = start + hours(7) * (at / 2);
        let one = Wave { opened, ..bare() };
        store.open_wave(&one).await.unwrap();
        // The step is repeated later: that is no other wave, and no other time.
        let again = Wave {
            opened: opened + hours(3),
            ..one.clone()
        };
        assert_eq!(store.open_wave(&again).await.unwrap(), Committed::Refused);
        expected.push(one);
    }
    // Lists say how it is now.
    let moved = to(WaveState::Planning, WaveState::Open, start);
    store.move_wave(&expected[4].id, &moved).await.unwrap();
    expected[4] = get(&store, &expected[4].id).await;
    assert_eq!(expected[4].state, WaveState::Open);

    expected.sort_by(|a, b| (b.opened, &b.id).cmp(&(a.opened, &a.id)));
    let mut before = Some((start + hours(7) * 5, WaveId::new("")));
    let mut seen = Vec::new();
    for expected in [2, 2, 2, 2] {
        let page = store.waves(before, 2).await.unwrap();
        assert_eq!(page.len(), expected);
        before = page.last().map(|last| (last.opened, last.id.clone()));
        seen.extend(page);
    }
    seen.extend(store.waves(before, 1).await.unwrap());
    assert_eq!(seen, expected);
    assert_eq!(store.waves(None, 0).await.unwrap(), []);
    assert!(!store.waves(None, 1).await.unwrap().is_empty());
}

fn plan_node(package: &str, level: u32) -> PlanNode {
    PlanNode {
        key: NodeKey::package(&name(package)),
        waits_for: vec![
            NodeKey::package(&name("@s/root")),
            NodeKey::pair(&name("b"), &version("1.0.0")),
        ],
        cycle: vec![NodeKey::package(&name("back"))],
        level,
        base: version("5.0.0"),
        version: Some(version("5.0.1-0")),
        seed: Some(vec![cause("seed")]),
    }
}

async fn put_plan(store: &Arc<dyn Store>, wave: &WaveId, plan: &str, rows: &[PlanNode]) {
    let rows = rows
        .iter()
        .map(|row| Write::PlanNode(wave.clone(), plan.into(), Box::new(row.clone())));
    store.write(rows.collect()).await.unwrap();
}

pub async fn rows_of_a_plan_are_written_once_and_come_in_pages(place: &impl Place) {
    let store = place.open().await;
    let (this, other) = (wave(), wave());
    let mut rows: Vec<_> = (0..300)
        .map(|at| plan_node(&format!("p{at}"), at + 1))
        .chain([
            PlanNode {
                cycle: Vec::new(),
                version: None,
                seed: None,
                ..plan_node("@s/bare", 1)
            },
            PlanNode {
                key: NodeKey::pair(&name("pair"), &version("2.0.0")),
                ..plan_node("pair", 2)
            },
        ])
        .collect();
    put_plan(&store, &this, "one", &rows).await;
    put_plan(&store, &this, "one", &[plan_node("p7", 99)]).await;
    put_plan(&store, &this, "two", &[plan_node("p7", 70)]).await;
    put_plan(&store, &other, "one", &[plan_node("p8", 80)]).await;

    let packages: Vec<_> = ["p8", "p7", "missing", "@s/bare", "p7", "pair"]
        .map(name)
        .into();
    let found = store.plan_nodes(&this, "one", &packages).await.unwrap();
    let expected = [
        Some(&rows[8]),
        Some(&rows[7]),
        None,
        Some(&rows[300]),
        Some(&rows[7]),
        Some(&rows[301]),
    ];
    assert_eq!(found, expected.map(Option::<&PlanNode>::cloned));
    let two = store.plan_nodes(&this, "two", &packages).await.unwrap();
    assert_eq!(two[..2], [None, Some(plan_node("p7", 70))]);

    rows.sort_by(|a, b| a.key.package.as_str().cmp(b.key.package.as_str()));
    let mut seen: Vec<PlanNode> = Vec::new();
    loop {
        let after = seen.last().map(|last| last.key.package.clone());
        let page = store
            .plan_page(&this, "one", after.as_ref(), 100)
            .await
            .unwrap();
        let full = page.len() == 100;
        seen.extend(page);
        if !full {
            break;
        }
    }
    assert!(seen == rows);
    assert_eq!(store.plan_page(&this, "one", None, 0).await.unwrap(), []);
    assert_eq!(store.plan_page(&this, "none", None, 9).await.unwrap(), []);
    let alone = store.plan_page(&other, "one", None, 9).await.unwrap();
    assert_eq!(alone, [plan_node("p8", 80)]);
}

pub async fn members_keep_their_first_cause_and_come_in_the_order_of_changes(place: &impl Place) {
    let store = place.open().await;
    let (this, other) = (wave(), wave());
    assert_eq!(store.members(&this).await.unwrap(), []);
    let member = |wave: &WaveId, change: &str, parent: &str| {
        Write::Member(wave.clone(), ChangeId::new(change), cause(parent))
    };
    let first = vec![
        member(&this, "p-2", "b"),
        member(&this, "p-10", "a"),
        member(&other, "p-1", "c"),
    ];
    store.write(first).await.unwrap();
    store
        .write(vec![member(&this, "p-2", "other")])
        .await
        .unwrap();
    let expected = [
        (ChangeId::new("p-10"), cause("a")),
        (ChangeId::new("p-2"), cause("b")),
    ];
    assert_eq!(store.members(&this).await.unwrap(), expected);
    assert_eq!(store.members(&other).await.unwrap().len(), 1);
}

pub async fn one_wave_after_the_other_collects(place: &impl Place) {
    let store = place.open().await;
    let (this, apart) = (env(&unique()), env(&unique()));
    let [a, b, c] = [wave(), wave(), wave()];
    let steps = [
        (Some(&a), &b, Committed::Refused, None),
        (None, &a, Committed::Applied, Some(&a)),
        (None, &b, Committed::Refused, Some(&a)),
        (Some(&c), &b, Committed::Refused, Some(&a)),
        (Some(&a), &b, Committed::Applied, Some(&b)),
        (Some(&a), &b, Committed::Refused, Some(&b)),
        (Some(&b), &c, Committed::Applied, Some(&c)),
    ];
    for (at, (expect, next, answer, then)) in steps.into_iter().enumerate() {
        assert_eq!(
            store.collect(&this, expect, next).await.unwrap(),
            answer,
            "step {at}"
        );
        assert_eq!(store.collecting(&this).await.unwrap().as_ref(), then);
    }
    assert_eq!(store.collecting(&apart).await.unwrap(), None);
    for expect in [None, Some(&c)] {
        let before = store.collecting(&apart).await.unwrap();
        let expect = before.as_ref().or(expect.filter(|_| before.is_some()));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (store, env, expect, next) =
                (Arc::clone(&store), apart.clone(), expect.cloned(), wave());
            tasks.spawn(async move {
                let answer = store.collect(&env, expect.as_ref(), &next).await.unwrap();
                (next, answer)
            });
        }
        let mut answers = tasks.join_all().await;
        answers.retain(|(_, answer)| *answer == Committed::Applied);
        assert_eq!(answers.len(), 1);
        let there = store.collecting(&apart).await.unwrap();
        assert_eq!(there.as_ref(), Some(&answers[0].0));
    }
}

pub async fn what_a_wave_left_ends_with_it_and_not_before(place: &impl Place) {
    let store = place.open().await;
    if store.is_shared() {
        // Ends by its time to live.
        return;
    }
    let of_change = |accepted, state| {
        let change = feedsme::model::change::Change {
            accepted,
            planned: Some(planned(feedsme::model::change::Verdict::Opened)),
            ..change()
        };
        let one = Wave {
            id: WaveId::new(change.id.as_str()),
            change: change.id.clone(),
            opened: accepted,
            since: accepted,
            state,
            ..bare()
        };
        (Some(change), one)
    };
    let alone = |opened, since, state| {
        let one = Wave {
            opened,
            since,
            state,
            ..bare()
        };
        (None, one)
    };
    let all = [
        (of_change(1_000, WaveState::Closed), true),
        (of_change(1_000, WaveState::Open), false),
        (of_change(9_000, WaveState::Closed), false),
        (alone(1_000, 1_001, WaveState::Closed), true),
        (alone(1_000, 1_001, WaveState::Cancelled), true),
        (alone(1_000, 9_000, WaveState::Closed), false),
        (alone(1_000, 1_001, WaveState::Awaiting), false),
        (alone(9_000, 9_000, WaveState::Closed), false),
    ];
    let key = NodeKey::package(&name("child"));
    for ((change, one), _) in &all {
        store.open_wave(one).await.unwrap();
        let node = Node {
            released: Some(RebuildId::new("r")),
            ..Node::default()
        };
        put_plan(&store, &one.id, "p", &[plan_node("child", 1)]).await;
        let member = Write::Member(one.id.clone(), one.change.clone(), cause("a"));
        let node = Write::Node(one.id.clone(), key.clone(), node);
        let mut writes = vec![member, node];
        writes.extend(change.clone().map(|one| Write::Change(Box::new(one))));
        store.write(writes).await.unwrap();
    }
    assert_eq!(store.prune(5_000).await.unwrap(), 3);
    assert_eq!(store.prune(5_000).await.unwrap(), 0);
    for ((change, one), ended) in &all {
        assert_eq!(
            store.wave(&one.id).await.unwrap().is_none(),
            *ended,
            "{one:?}"
        );
        let node = store.nodes(&one.id, std::slice::from_ref(&key)).await;
        assert_eq!(node.unwrap()[0] == Node::default(), *ended);
        let plan = store.plan_page(&one.id, "p", None, 9).await.unwrap();
        assert_eq!(plan.is_empty(), *ended);
        assert_eq!(store.members(&one.id).await.unwrap().is_empty(), *ended);
        if let Some(change) = change {
            assert_eq!(store.change(&change.id).await.unwrap().is_none(), *ended);
        }
    }
}
