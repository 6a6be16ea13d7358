//! Contract: what a conditional batch is refused for, and that a refusal is no write.

use std::sync::Arc;

use feedsme::model::id::RebuildId;
use feedsme::model::name::PackageName;
use feedsme::model::package::{Head, PackageState, RebuildState, RowKey};
use feedsme::store::{
    Committed, Expect, PackageCommit, RebuildPatch, RowWrite, Statics, Store, StoreErrorKind, Want,
    WantOpen,
};

use super::Place;
use super::fixtures::{
    applied, as_it_is, commit, env, facts, name, package, publish, rebuild, reserve, state, top,
    version, wave,
};

/// The three kinds of rows that conditions tell apart.
const ABSENT: &str = "1.0.0";
const NO_REBUILD: &str = "1.0.1-0";
const REBUILD: &str = "1.0.1-1";

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
        open: WantOpen::All,
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
