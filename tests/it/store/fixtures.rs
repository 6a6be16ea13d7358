//! Values for the contract's tests: names that no other test has, and structs with every field filled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use feedsme::model::change::{Change, Planned, Verdict};
use feedsme::model::decision::{Decision, Flag, Reason};
use feedsme::model::edge::Edge;
use feedsme::model::env::Env;
use feedsme::model::id::{ChangeId, Digest, RebuildId, WaveId};
use feedsme::model::name::PackageName;
use feedsme::model::package::{
    Cause, Facts, Kind, PackageState, Rebuild, RebuildState, Row, RowKey, Top,
};
use feedsme::semver::Version;
use feedsme::store::{Committed, Expect, PackageCommit, RowWrite, Store, Want};

pub fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A package that no other test knows.
pub fn package(start: &str) -> PackageName {
    name(&format!("{start}-{}", unique()))
}

pub fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

pub fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

pub fn env(text: &str) -> Env {
    Env::trusted(text)
}

pub fn wave() -> WaveId {
    WaveId::new(format!("w-{}", unique()))
}

pub fn change_id() -> ChangeId {
    ChangeId::new(format!("c-{}", unique()))
}

pub fn change() -> Change {
    Change {
        id: change_id(),
        kind: Kind::Promotion,
        env: env("test"),
        name: name("@s/root"),
        version: version("5.2.3-beta.1"),
        tag: Some("next".into()),
        promote: true,
        digest: Digest::of(b"document"),
        key: Some("key é".into()),
        accepted: 1_700_000_000_123,
        planned: None,
    }
}

pub fn planned(verdict: Verdict) -> Planned {
    Planned {
        at: 1_700_000_000_456,
        verdict,
        rebuilds: 7,
        skips: 9,
    }
}

pub fn decision(dependent: &str, wave: &WaveId) -> Decision {
    Decision {
        dependent: name(dependent),
        wave: wave.clone(),
        env: env("dev"),
        parent: name("@s/root"),
        parent_version: version("5.2.3"),
        range: Some("^5.0.0 || \"x\"".into()),
        top: Some(version("6.0.0")),
        base: Some(version("5.9.0")),
        version: Some(version("5.9.1-0")),
        rebuild: Some(RebuildId::new("r-1")),
        reason: Reason::OlderAdmitted,
        flags: vec![
            Flag::Drift {
                env: env("dev"),
                version: version("5.9.0"),
            },
            Flag::Downgrade {
                there: version("7.0.0"),
            },
        ],
        also: vec![Cause {
            parent: name("b"),
            version: version("1.0.0"),
            origin: None,
        }],
    }
}

/// Facts with every field filled.
pub fn facts() -> Facts {
    Facts {
        noticed: Some(1_700_000_000_001),
        notice: Some(ChangeId::new("p-1")),
        digest: Some(Digest::of(b"manifest")),
        tag: Some("next".into()),
        origin: Some(version("5.0.0")),
        previous: Some(version("4.9.9")),
        tarball_of: Some(version("5.0.0")),
        stamp: 1_700_000_000_000_017,
        dropped: Some(vec![name("gone"), name("@s/gone")]),
        took_place: vec![RebuildId::new("r-8"), RebuildId::new("r-9")],
        with: Some(BTreeMap::from([
            (name("@s/root"), version("5.2.3")),
            (name("b"), version("1.0.0-rc.1")),
        ])),
        attach: Some(BTreeMap::from([(name("@s/root"), version("5.2.3"))])),
        attach_stamp: 1_700_000_000_000_018,
    }
}

/// Facts with as few fields filled as there can be.
pub fn bare_facts() -> Facts {
    Facts {
        noticed: None,
        notice: None,
        digest: None,
        tag: None,
        origin: None,
        previous: None,
        tarball_of: None,
        stamp: 0,
        dropped: None,
        took_place: Vec::new(),
        with: None,
        attach: None,
        attach_stamp: 0,
    }
}

/// A rebuild with every field filled.
pub fn rebuild() -> Rebuild {
    Rebuild {
        id: RebuildId::fresh(),
        state: RebuildState::Queued,
        generation: 3,
        waves: BTreeSet::from([WaveId::new("w-a"), WaveId::new("w-b")]),
        change: ChangeId::new("p-1"),
        decision: decision("child", &WaveId::new("w-a")),
        order: 42,
        base: version("5.0.0"),
        origin: version("4.0.0"),
        tarball_of: version("3.0.0"),
        cause: vec![
            Cause {
                parent: name("@s/root"),
                version: version("5.2.3"),
                origin: Some(version("5.2.2")),
            },
            Cause {
                parent: name("a"),
                version: version("1.0.0"),
                origin: None,
            },
        ],
        with: BTreeMap::from([(name("@s/root"), version("5.2.3"))]),
        promote: true,
        attempt: 2,
        tries: 1,
        owner: Some("replica-1".into()),
        due: 1_700_000_000_999,
        ended_because: Some("superseded by \"5.1.0\"".into()),
        confirmed_by: Some(ChangeId::new("p-2")),
    }
}

/// A rebuild as it is reserved.
pub fn bare_rebuild() -> Rebuild {
    Rebuild {
        waves: BTreeSet::new(),
        cause: Vec::new(),
        with: BTreeMap::new(),
        promote: false,
        attempt: 0,
        tries: 0,
        owner: None,
        due: 0,
        ended_because: None,
        confirmed_by: None,
        ..rebuild()
    }
}

pub fn top(text: &str) -> Top {
    Top {
        version: version(text),
        origin: Some(version("1.0.0")),
        edges: vec![
            Edge {
                parent: name("z"),
                range: "^1 || ^2".into(),
            },
            Edge {
                parent: name("@s/a"),
                range: "git+https://example.com/\"a\".git".into(),
            },
            Edge {
                parent: name("m"),
                range: String::new(),
            },
        ],
    }
}

/// A write of the publish row with facts, under no condition of its own.
pub fn publish(text: &str, born: u64) -> RowWrite {
    RowWrite {
        facts: Some(facts()),
        ..RowWrite::new(RowKey::publish(&version(text)), Expect::Nothing, born)
    }
}

/// A write of the publish row with a rebuild, if there is none.
pub fn reserve(text: &str, born: u64, rebuild: &Rebuild) -> RowWrite {
    RowWrite {
        rebuild: Some(rebuild.clone()),
        ..RowWrite::new(RowKey::publish(&version(text)), Expect::NoRebuild, born)
    }
}

/// The condition that this rebuild is there as it is.
pub fn as_it_is(rebuild: &Rebuild) -> Expect {
    Expect::Rebuild {
        id: rebuild.id.clone(),
        state: rebuild.state,
        attempt: rebuild.attempt,
    }
}

pub async fn commit(store: &Arc<dyn Store>, batch: PackageCommit) -> Committed {
    let answers = store.commit(vec![batch]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// Commits rows under that seq and expects it to be applied.
pub async fn applied(store: &Arc<dyn Store>, name: &PackageName, seq: u64, rows: Vec<RowWrite>) {
    let batch = PackageCommit {
        rows,
        ..PackageCommit::at(name, seq)
    };
    assert_eq!(commit(store, batch).await, Committed::Applied);
}

pub async fn state(store: &Arc<dyn Store>, want: Want) -> PackageState {
    let mut states = store.packages(&[want]).await.unwrap();
    assert_eq!(states.len(), 1);
    states.pop().unwrap()
}

pub async fn row(store: &Arc<dyn Store>, name: &PackageName, key: &RowKey) -> Option<Row> {
    state(store, Want::rows(name, vec![key.clone()]))
        .await
        .rows
        .pop()
}

pub async fn publish_row(store: &Arc<dyn Store>, name: &PackageName, text: &str) -> Option<Row> {
    row(store, name, &RowKey::publish(&version(text))).await
}
