//! Contract: conditional batches.

use std::collections::BTreeSet;
use std::sync::Arc;

use feedsme::model::id::{ChangeId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Head, RebuildState, Row, RowKey};
use feedsme::store::{
    Committed, Expect, PackageCommit, RebuildPatch, RowWrite, Statics, Want, WantOpen,
};

use super::Place;
use super::fixtures::{
    applied, as_it_is, bare_facts, bare_rebuild, commit, facts, name, package, publish,
    publish_row, rebuild, reserve, state, top, version, wave,
};

/// A version that is reserved.
const REBUILD: &str = "1.0.1-1";

pub async fn batches_of_one_call_are_independent_and_in_order(place: &impl Place) {
    let store = place.open().await;
    let (a, b) = (package("a"), package("b"));
    let batches = vec![
        PackageCommit::at(&a, 0),
        PackageCommit::at(&b, 5),
        PackageCommit::at(&a, 1),
        PackageCommit::at(&a, 1),
        PackageCommit::at(&b, 0),
    ];
    let answers = store.commit(batches).await.unwrap();
    let (yes, no) = (Committed::Applied, Committed::Refused);
    assert_eq!(answers, [yes, no, yes, no, yes]);
    let states = store
        .packages(&[Want::statics(&a), Want::statics(&b)])
        .await
        .unwrap();
    assert_eq!(
        states.iter().map(|state| state.seq).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(store.commit(Vec::new()).await.unwrap(), []);
}

pub async fn of_32_batches_under_one_seq_exactly_one_is_applied(place: &impl Place) {
    let store = place.open().await;
    let package = package("race");
    for seq in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..32_i64 {
            let (store, package) = (Arc::clone(&store), package.clone());
            tasks.spawn(async move {
                let statics = Statics {
                    stamp: Some(task),
                    ..Statics::default()
                };
                (
                    task,
                    commit(
                        &store,
                        PackageCommit {
                            statics,
                            ..PackageCommit::at(&package, seq)
                        },
                    )
                    .await,
                )
            });
        }
        let answers = tasks.join_all().await;
        let won: Vec<_> = answers
            .iter()
            .filter(|(_, answer)| *answer == Committed::Applied)
            .collect();
        assert_eq!(won.len(), 1, "under seq {seq}");
        let after = state(&store, Want::statics(&package)).await;
        assert_eq!((after.seq, after.stamp), (seq + 1, won[0].0));
    }
}

pub async fn of_32_claims_of_one_attempt_exactly_one_is_applied(place: &impl Place) {
    let store = place.open().await;
    let package = package("claim");
    let mut rebuild = bare_rebuild();
    applied(&store, &package, 0, vec![reserve(REBUILD, 1, &rebuild)]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32 {
        let (store, package, expect) = (Arc::clone(&store), package.clone(), as_it_is(&rebuild));
        tasks.spawn(async move {
            let mut claim = RowWrite::new(RowKey::publish(&version(REBUILD)), expect, 0);
            claim.patch = Some(RebuildPatch {
                state: Some(RebuildState::Sending),
                attempt: Some(1),
                owner: Some(format!("replica-{task}")),
                ..RebuildPatch::default()
            });
            (
                task,
                commit(&store, PackageCommit::row(&package, claim)).await,
            )
        });
    }
    let answers = tasks.join_all().await;
    let won: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| *answer == Committed::Applied)
        .collect();
    assert_eq!(won.len(), 1);
    (rebuild.state, rebuild.attempt) = (RebuildState::Sending, 1);
    rebuild.owner = Some(format!("replica-{}", won[0].0));
    let row = publish_row(&store, &package, REBUILD).await.unwrap();
    assert_eq!(row.rebuild, Some(rebuild));
    assert_eq!(state(&store, Want::statics(&package)).await.seq, 1);
}

pub async fn a_patch_changes_what_it_names_and_adds_waves(place: &impl Place) {
    let store = place.open().await;
    let package = package("patch");
    let mut expected = rebuild();
    applied(
        &store,
        &package,
        0,
        vec![reserve(REBUILD, 1, &expected), publish("1.0.0", 1)],
    )
    .await;
    let facts_before = publish_row(&store, &package, REBUILD).await.unwrap().facts;
    let nothing = RebuildPatch::default;
    let patches = [
        nothing(),
        RebuildPatch {
            state: Some(RebuildState::Sending),
            ..nothing()
        },
        RebuildPatch {
            attempt: Some(7),
            ..nothing()
        },
        RebuildPatch {
            tries: Some(6),
            ..nothing()
        },
        RebuildPatch {
            owner: Some("replica-2".into()),
            ..nothing()
        },
        RebuildPatch {
            due: Some(-5),
            ..nothing()
        },
        RebuildPatch {
            join: vec![WaveId::new("w-c"), WaveId::new("w-a"), WaveId::new("w-c")],
            ..nothing()
        },
        RebuildPatch {
            join: vec![WaveId::new("w-d")],
            ..nothing()
        },
        RebuildPatch {
            ended_because: Some("given up".into()),
            ..nothing()
        },
        RebuildPatch {
            confirmed_by: Some(ChangeId::new("p-9")),
            ..nothing()
        },
        RebuildPatch {
            state: Some(RebuildState::Dead),
            attempt: Some(8),
            tries: Some(0),
            owner: Some(String::new()),
            due: Some(0),
            join: vec![WaveId::new("w-e")],
            ended_because: Some(String::new()),
            confirmed_by: Some(ChangeId::new("p-10")),
        },
    ];
    let mut seq = 1;
    for (at, patch) in patches.into_iter().enumerate() {
        let mut write = RowWrite::new(RowKey::publish(&version(REBUILD)), as_it_is(&expected), 77);
        write.patch = Some(patch.clone());
        // Half of them under the seq, half without.
        let batch = if at % 2 == 0 {
            PackageCommit::row(&package, write)
        } else {
            seq += 1;
            PackageCommit {
                rows: vec![write],
                ..PackageCommit::at(&package, seq - 1)
            }
        };
        assert_eq!(
            commit(&store, batch).await,
            Committed::Applied,
            "patch {at}"
        );
        expected.state = patch.state.unwrap_or(expected.state);
        expected.attempt = patch.attempt.unwrap_or(expected.attempt);
        expected.tries = patch.tries.unwrap_or(expected.tries);
        expected.owner = patch.owner.or(expected.owner);
        expected.due = patch.due.unwrap_or(expected.due);
        expected.waves.extend(patch.join);
        expected.ended_because = patch.ended_because.or(expected.ended_because);
        expected.confirmed_by = patch.confirmed_by.or(expected.confirmed_by);
        let row = publish_row(&store, &package, REBUILD).await.unwrap();
        assert_eq!(row.rebuild.as_ref(), Some(&expected), "patch {at}");
        assert_eq!(
            (row.born, row.facts),
            (1, facts_before.clone()),
            "patch {at}"
        );
    }
    assert_eq!(
        expected.waves,
        ["w-a", "w-b", "w-c", "w-d", "w-e"].map(WaveId::new).into()
    );

    // A rebuild replaces all of the one before, also by nothing.
    let mut next = bare_rebuild();
    next.waves = BTreeSet::from([wave()]);
    let mut write = RowWrite::new(RowKey::publish(&version(REBUILD)), as_it_is(&expected), 77);
    write.rebuild = Some(next.clone());
    write.facts = Some(facts());
    assert_eq!(
        commit(&store, PackageCommit::row(&package, write)).await,
        Committed::Applied
    );
    let row = publish_row(&store, &package, REBUILD).await;
    let key = RowKey::publish(&version(REBUILD));
    assert_eq!(
        row,
        Some(Row {
            key,
            born: 1,
            facts: Some(facts()),
            rebuild: Some(next)
        })
    );
}

pub async fn a_row_keeps_where_it_was_born(place: &impl Place) {
    let store = place.open().await;
    let package = package("born");
    let bare = RowWrite::new(RowKey::publish(&version(REBUILD)), Expect::Absent, 4);
    applied(&store, &package, 0, vec![bare]).await;
    let there = publish_row(&store, &package, REBUILD).await.unwrap();
    assert_eq!(
        (there.born, &there.facts, &there.rebuild),
        (4, &None, &None)
    );
    applied(&store, &package, 1, vec![reserve(REBUILD, 9, &rebuild())]).await;
    applied(&store, &package, 2, vec![publish(REBUILD, 11)]).await;
    let there = publish_row(&store, &package, REBUILD).await.unwrap();
    assert_eq!(there.born, 4);
    assert!(there.facts.is_some() && there.rebuild.is_some());
}

pub async fn a_call_with_thousands_of_batches_answers_each(place: &impl Place) {
    let store = place.open().await;
    let packages: Vec<_> = (0..2_100).map(|_| package("many")).collect();
    applied(&store, &packages[1_500], 0, Vec::new()).await;
    let batches = packages
        .iter()
        .map(|package| PackageCommit::at(package, 0))
        .collect();
    let answers = store.commit(batches).await.unwrap();
    assert_eq!(answers.len(), 2_100);
    let refused: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| **answer == Committed::Refused)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(refused, [1_500]);
}

/// Reads see every write that was answered before the read began: whoever wrote it, whoever reads.
pub async fn everybody_reads_what_was_answered(place: &impl Place) {
    let store = place.open().await;
    let (told, _) = tokio::sync::broadcast::channel::<(PackageName, u64)>(1024);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, told, mut hear) = (Arc::clone(&store), told.clone(), told.subscribe());
        tasks.spawn(async move {
            let own = package("own");
            for seq in 0..25 {
                applied(
                    &store,
                    &own,
                    seq,
                    vec![publish(&format!("1.0.{seq}"), seq + 1)],
                )
                .await;
                told.send((own.clone(), seq)).unwrap();
                let (other, at_least) = hear.recv().await.unwrap();
                for (package, seq) in [(&own, seq), (&other, at_least)] {
                    let key = RowKey::publish(&version(&format!("1.0.{seq}")));
                    let state = state(&store, Want::rows(package, vec![key])).await;
                    assert!(
                        state.seq > seq,
                        "{package} has seq {} after {seq} was answered",
                        state.seq
                    );
                    assert_eq!(state.rows.len(), 1);
                }
            }
        });
    }
    drop(told);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Planning does not read a partition again after its own batch: `plan::applied` must say what a read would.
pub async fn what_a_batch_made_of_a_partition_is_known_without_reading_it(place: &impl Place) {
    let store = place.open().await;
    let package = package("known");
    let (first, second) = (wave(), wave());
    let (parent, line, range) = (name("@s/root"), version("5.2.3"), "^5.0.0".to_owned());
    let want = Want {
        top_edges: true,
        rows: vec![
            RowKey::publish(&version("1.0.0")),
            RowKey::publish(&version("1.0.1-0")),
            RowKey::publish(&version("1.0.1-1")),
        ],
        open: WantOpen::All,
        edges: vec![(parent.clone(), range.clone())],
        attached: vec![(parent.clone(), line.clone())],
        ..Want::statics(&package)
    };
    let reserved = bare_rebuild();
    let born = PackageCommit {
        statics: Statics {
            stamp: Some(7),
            head: Some(Head {
                version: version("1.0.0"),
                born: 0,
            }),
            top: Some(top("1.0.0")),
            dependent_of: Some(Some(parent.clone())),
            open: [
                (first.clone(), version("1.0.1-0")),
                (second.clone(), version("1.0.1-0")),
            ]
            .into(),
            close: Vec::new(),
        },
        rows: vec![
            RowWrite {
                facts: Some(bare_facts()),
                ..publish("1.0.0", 0)
            },
            reserve("1.0.1-0", 0, &reserved),
        ],
        edges: vec![(parent.clone(), range, version("1.0.0"))],
        attached: vec![(parent.clone(), line.clone(), version("1.0.0"))],
        ..PackageCommit::at(&package, 0)
    };
    let noticed = PackageCommit {
        statics: Statics {
            stamp: Some(8),
            dependent_of: Some(None),
            open: [(second.clone(), version("1.0.1-1"))].into(),
            close: vec![first],
            ..Statics::default()
        },
        rows: vec![
            RowWrite {
                patch: Some(RebuildPatch {
                    state: Some(RebuildState::Published),
                    attempt: Some(1),
                    tries: Some(2),
                    owner: Some("me".into()),
                    due: Some(3),
                    join: vec![wave()],
                    ended_because: Some("that".into()),
                    confirmed_by: Some(ChangeId::new("p-3")),
                }),
                facts: Some(facts()),
                ..RowWrite::new(RowKey::publish(&version("1.0.1-0")), as_it_is(&reserved), 9)
            },
            reserve("1.0.1-1", 1, &rebuild()),
        ],
        attached: vec![(parent, line, version("1.0.1-0"))],
        ..PackageCommit::at(&package, 1)
    };
    let nothing = PackageCommit::at(&package, 2);
    for batch in [born, noticed, nothing] {
        let before = state(&store, want.clone()).await;
        let known = feedsme::plan::applied::applied(before, &batch);
        assert_eq!(commit(&store, batch).await, Committed::Applied);
        assert_eq!(known, state(&store, want.clone()).await);
    }
}
