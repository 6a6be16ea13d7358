//! Contract: conditional batches.

use std::collections::BTreeSet;
use std::sync::Arc;

use feedsme::model::id::{ChangeId, RebuildId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{Head, PackageState, RebuildState, Row, RowKey};
use feedsme::store::{
    Committed, Expect, PackageCommit, RebuildPatch, RowWrite, Statics, Store, StoreErrorKind, Want,
};

use super::Place;
use super::fixtures::{
    applied, as_it_is, bare_rebuild, commit, env, facts, name, package, publish, publish_row,
    rebuild, reserve, state, top, version, wave,
};

/// Everything that the tests here can have written to a package.
async fn whole(store: &Arc<dyn Store>, package: &PackageName) -> PackageState {
    let mut keys = Vec::new();
    for text in ["1.0.0", "1.0.1-0", "1.0.1-1"] {
        keys.push(RowKey::publish(&version(text)));
        keys.push(RowKey::promotion(&version(text), &env("dev")));
    }
    let want = Want {
        edges: vec![(name("root"), "^1".into())],
        attached: vec![(name("root"), version("1.0.0"))],
        open: feedsme::store::WantOpen::All,
        top_edges: true,
        ..Want::rows(package, keys)
    };
    state(store, want).await
}

/// A batch that would change everything there is in a package.
fn sweeping(package: &PackageName, seq: u64) -> PackageCommit {
    PackageCommit {
        statics: Statics {
            stamp: Some(99),
            head: Some(Head {
                version: version("1.0.0"),
                born: 9,
            }),
            top: Some(top("1.0.0")),
            dependent_of: Some(Some(name("root"))),
            open: [(wave(), version("1.0.1-0"))].into(),
            close: Vec::new(),
        },
        rows: vec![publish("1.0.0", 9), reserve("1.0.1-1", 9, &rebuild())],
        edges: vec![(name("root"), "^1".into(), version("1.0.0"))],
        attached: vec![(name("root"), version("1.0.0"), version("1.0.0"))],
        ..PackageCommit::at(package, seq)
    }
}

pub async fn a_seq_is_spent_once(place: &impl Place) {
    let store = place.open().await;
    let package = package("seq");
    for (expect, answer) in [
        (1, Committed::Refused),
        (u64::MAX >> 1, Committed::Refused),
        (0, Committed::Applied),
        (0, Committed::Refused),
        (2, Committed::Refused),
        (1, Committed::Applied),
        (2, Committed::Applied),
        (1, Committed::Refused),
    ] {
        assert_eq!(
            commit(&store, PackageCommit::at(&package, expect)).await,
            answer,
            "under seq {expect}"
        );
    }
    assert_eq!(state(&store, Want::statics(&package)).await.seq, 3);
}

/// The three kinds of rows that conditions tell apart.
const ABSENT: &str = "1.0.0";
const NO_REBUILD: &str = "1.0.1-0";
const REBUILD: &str = "1.0.1-1";

pub async fn each_condition_of_a_row_applies_or_refuses(place: &impl Place) {
    let store = place.open().await;
    let there = rebuild();
    let other_state = Expect::Rebuild {
        id: there.id.clone(),
        state: RebuildState::Sending,
        attempt: there.attempt,
    };
    let other_attempt = Expect::Rebuild {
        id: there.id.clone(),
        state: there.state,
        attempt: there.attempt + 1,
    };
    let other_id = Expect::Rebuild {
        id: RebuildId::fresh(),
        state: there.state,
        attempt: there.attempt,
    };
    let conditions: [(Expect, &[&str]); 7] = [
        (Expect::Nothing, &[ABSENT, NO_REBUILD, REBUILD]),
        (Expect::Absent, &[ABSENT]),
        (Expect::NoRebuild, &[ABSENT, NO_REBUILD]),
        (as_it_is(&there), &[REBUILD]),
        (other_state, &[]),
        (other_attempt, &[]),
        (other_id, &[]),
    ];
    for (expect, holds) in conditions {
        for target in [ABSENT, NO_REBUILD, REBUILD] {
            for seq in [Some(1), None] {
                if seq.is_none() && expect == Expect::Nothing {
                    continue;
                }
                let package = package("conditions");
                let mut bare =
                    RowWrite::new(RowKey::publish(&version(NO_REBUILD)), Expect::Absent, 1);
                bare.facts = Some(facts());
                applied(&store, &package, 0, vec![bare, reserve(REBUILD, 1, &there)]).await;
                let before = whole(&store, &package).await;

                let mut write = RowWrite::new(RowKey::publish(&version(target)), expect.clone(), 2);
                let mut new = facts();
                new.stamp += 5;
                write.facts = Some(new.clone());
                let batch = PackageCommit {
                    expect_seq: seq,
                    rows: vec![write],
                    ..PackageCommit::at(&package, 0)
                };
                let answer = commit(&store, batch).await;
                let after = whole(&store, &package).await;
                let case = format!("{expect:?} on {target} under {seq:?}");
                if holds.contains(&target) {
                    assert_eq!(answer, Committed::Applied, "{case}");
                    assert_eq!(after.seq, 1 + u64::from(seq.is_some()), "{case}");
                    assert_eq!(after.facts(&version(target)), Some(&new), "{case}");
                } else {
                    assert_eq!(answer, Committed::Refused, "{case}");
                    assert_eq!(after, before, "{case}");
                }
            }
        }
    }
}

pub async fn a_refused_batch_writes_nothing(place: &impl Place) {
    let store = place.open().await;
    let package = package("refused");
    assert_eq!(
        commit(&store, sweeping(&package, 1)).await,
        Committed::Refused
    );
    let nothing = whole(&store, &package).await;
    assert_eq!(
        (nothing.seq, nothing.rows.len(), nothing.open.len()),
        (0, 0, 0)
    );
    assert!(!store.names(None, 100_000).await.unwrap().contains(&package));

    applied(&store, &package, 0, Vec::new()).await;
    let before = whole(&store, &package).await;
    // The seq holds, all rows but the last hold.
    for unmet in [Expect::Absent, as_it_is(&rebuild())] {
        let mut batch = sweeping(&package, 1);
        let key = RowKey::promotion(&version("1.0.0"), &env("dev"));
        if unmet == Expect::Absent {
            let write = RowWrite::new(key.clone(), Expect::Absent, 3);
            assert_eq!(
                commit(&store, PackageCommit::row(&package, write)).await,
                Committed::Applied
            );
        }
        let before = whole(&store, &package).await;
        batch.rows.push(RowWrite::new(key, unmet, 4));
        assert_eq!(commit(&store, batch).await, Committed::Refused);
        assert_eq!(whole(&store, &package).await, before);
    }
    // The rows hold, the seq does not.
    assert_eq!(
        commit(&store, sweeping(&package, 0)).await,
        Committed::Refused
    );
    let mut after = whole(&store, &package).await;
    after.rows.clear();
    assert_eq!(after, before);
    // And with both it is applied, so the refusals were for these reasons.
    assert_eq!(
        commit(&store, sweeping(&package, 1)).await,
        Committed::Applied
    );
    let after = whole(&store, &package).await;
    assert_eq!(
        (
            after.stamp,
            after.rows.len(),
            after.edges.len(),
            after.attached.len()
        ),
        (99, 3, 1, 1)
    );
}

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

pub async fn an_unlawful_batch_fails_alone(place: &impl Place) {
    let store = place.open().await;
    let package = package("unlawful");
    applied(&store, &package, 0, vec![reserve(REBUILD, 1, &rebuild())]).await;
    let before = whole(&store, &package).await;
    let without_seq = |mut batch: PackageCommit| {
        batch.expect_seq = None;
        batch
    };
    let conditional = || RowWrite::new(RowKey::publish(&version(ABSENT)), Expect::Absent, 2);
    let only_rows = PackageCommit {
        rows: vec![conditional()],
        ..PackageCommit::at(&package, 1)
    };
    let statics = Statics {
        stamp: Some(5),
        ..Statics::default()
    };
    let edge = (name("root"), "^1".to_owned(), version("1.0.0"));
    let attached = (name("root"), version("1.0.0"), version("1.0.0"));
    let row_with = |change: &dyn Fn(&mut RowWrite)| {
        let mut write = conditional();
        change(&mut write);
        PackageCommit {
            rows: vec![write],
            ..PackageCommit::at(&package, 1)
        }
    };
    let unlawful = [
        without_seq(PackageCommit {
            statics,
            ..only_rows.clone()
        }),
        without_seq(PackageCommit {
            edges: vec![edge],
            ..only_rows.clone()
        }),
        without_seq(PackageCommit {
            attached: vec![attached],
            ..only_rows.clone()
        }),
        without_seq(row_with(&|row| row.expect = Expect::Nothing)),
        PackageCommit {
            rows: vec![conditional(), conditional()],
            ..only_rows.clone()
        },
        row_with(&|row| {
            row.key = RowKey::promotion(&version(ABSENT), &env("dev"));
            row.facts = Some(facts());
        }),
        row_with(&|row| row.patch = Some(RebuildPatch::default())),
        row_with(&|row| {
            row.expect = as_it_is(&rebuild());
            row.patch = Some(RebuildPatch::default());
            row.rebuild = Some(rebuild());
        }),
    ];
    for (at, batch) in unlawful.into_iter().enumerate() {
        let other = super::fixtures::package("beside");
        let call = vec![
            PackageCommit::at(&other, 0),
            batch,
            PackageCommit::at(&other, 1),
        ];
        let error = store.commit(call).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Bug, "case {at}: {error}");
        assert!(
            error.message.contains(package.as_str()),
            "case {at}: {error}"
        );
        assert_eq!(whole(&store, &package).await, before, "case {at}");
        assert_eq!(
            state(&store, Want::statics(&other)).await.seq,
            2,
            "case {at}"
        );
    }
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
