//! Contract: what was answered is there when the store is opened again.

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::change::Verdict;
use feedsme::model::decision::RebuildIndex;
use feedsme::model::id::Digest;
use feedsme::model::package::{Head, RowKey};
use feedsme::model::work::Work;
use feedsme::store::{
    Attempt, Committed, Line, Node, NodeKey, PackageCommit, Projection, Promotion, Statics, Store,
    Want, WantOpen,
};

use super::Place;
use super::fixtures::{
    change, commit, decision, env, name, package, planned, publish, rebuild, reserve, top, version,
    wave,
};
use super::work::pending;

pub async fn everything_is_there_after_the_store_was_closed_and_opened(place: &impl Place) {
    let store = place.open().await;
    let (package, child, wave) = (package("reopened"), name("@s/child"), wave());
    let one = version("1.0.0");
    let (test, digest) = (env("test"), Digest::of(b"document"));

    let change = change();
    let work = Work::plan(&change.id, &change.digest, &package, 5);
    store.accept(&change, b"document", &work).await.unwrap();
    store
        .set_planned(&change.id, &planned(Verdict::Opened))
        .await
        .unwrap();
    store
        .put_decisions(&change.id, &[decision("child", &wave)])
        .await
        .unwrap();
    store
        .put_manifest(&package, &one, &digest, b"manifest")
        .await
        .unwrap();
    let rebuild = rebuild();
    let batch = PackageCommit {
        statics: Statics {
            stamp: Some(17),
            head: Some(Head {
                version: one.clone(),
                born: 1,
            }),
            top: Some(top("1.0.0")),
            dependent_of: Some(Some(child.clone())),
            open: [(wave.clone(), version("1.0.1-0"))].into(),
            close: Vec::new(),
        },
        rows: vec![publish("1.0.0", 1), reserve("1.0.1-0", 1, &rebuild)],
        edges: vec![(child.clone(), "^1".into(), one.clone())],
        attached: vec![(child.clone(), one.clone(), one.clone())],
        ..PackageCommit::at(&package, 0)
    };
    assert_eq!(commit(&store, batch).await, Committed::Applied);
    let line = Line {
        package: package.clone(),
        version: one.clone(),
        previous: Some(version("0.9.0")),
    };
    let entry = Projection::LineDependent {
        package: package.clone(),
        version: one.clone(),
        dependent: child.clone(),
        dependent_version: one.clone(),
    };
    let edge = Projection::Range {
        parent: package.clone(),
        dependent: child.clone(),
        range: "^1".into(),
        version: one.clone(),
    };
    let projections = [
        Projection::Line(line.clone()),
        Projection::Head(line),
        entry,
        edge,
    ];
    store.project(17, &projections).await.unwrap();
    let node = NodeKey {
        package: child.clone(),
        version: None,
    };
    let released = Node {
        released: Some(rebuild.id.clone()),
        ..Node::default()
    };
    store
        .put_nodes(&wave, &[(node.clone(), released)])
        .await
        .unwrap();
    let promotion = Promotion {
        version: one.clone(),
        generation: 1,
        promote: true,
        change: change.id.clone(),
        at: 3,
    };
    assert_eq!(
        store.promote(&package, &test, 0, &promotion).await.unwrap(),
        Committed::Applied
    );
    let entries = [(child.clone(), one.clone())];
    store
        .put_promotion_entries(&package, &one, &test, 1, &entries)
        .await
        .unwrap();
    let index = RebuildIndex {
        id: rebuild.id.clone(),
        name: package.clone(),
        key: RowKey::publish(&version("1.0.1-0")),
        generation: 3,
        change: change.id.clone(),
        decided: 4,
    };
    store.put_rebuilds(&[index]).await.unwrap();
    let attempt = Attempt {
        number: 1,
        started: 1,
        ended: 2,
        owner: "o".into(),
        outcome: "sent".into(),
        neighbour: "warehouse".into(),
        may_have_reached: true,
        status: None,
        message: String::new(),
    };
    store.put_attempt(&rebuild.id, &attempt).await.unwrap();

    let want = Want {
        rows: vec![RowKey::publish(&one)],
        open: WantOpen::All,
        top_edges: true,
        prefixes: vec!["1.".into()],
        edges: vec![(child.clone(), "^1".into())],
        attached: vec![(child.clone(), one.clone())],
        ..Want::statics(&package)
    };
    let all = async |store: &dyn Store| {
        [
            format!("{:?}", store.change(&change.id).await.unwrap().unwrap()),
            format!(
                "{:?}",
                store
                    .document(&change.id, &change.digest)
                    .await
                    .unwrap()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .decisions(&change.id, 0, 9)
                    .await
                    .unwrap()
                    .first()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .manifest(&package, &one, &digest)
                    .await
                    .unwrap()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store.packages(std::slice::from_ref(&want)).await.unwrap()
            ),
            format!(
                "{:?}",
                store.published(&package).await.unwrap().first().unwrap()
            ),
            format!("{:?}", store.line(&package, &one).await.unwrap().unwrap()),
            format!("{:?}", store.head(&package).await.unwrap().unwrap()),
            format!(
                "{:?}",
                store
                    .line_dependents(&package, &one, None, 9)
                    .await
                    .unwrap()
                    .first()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .ranges(&package, &child)
                    .await
                    .unwrap()
                    .first()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .nodes(&wave, std::slice::from_ref(&node))
                    .await
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .latest_promotion(&package, &test)
                    .await
                    .unwrap()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .promotion_entries(&package, &one, &test)
                    .await
                    .unwrap()
                    .first_key_value()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store
                    .rebuilds(std::slice::from_ref(&rebuild.id))
                    .await
                    .unwrap()[0]
                    .as_ref()
                    .unwrap()
            ),
            format!(
                "{:?}",
                store.attempts(&rebuild.id).await.unwrap().first().unwrap()
            ),
            format!("{:?}", pending(store, &work.id).await.unwrap()),
        ]
    };
    let before = all(&*store).await;
    drop(store);
    let store = place.open().await;
    assert_eq!(all(&*store).await, before);
    // And it goes on from there.
    assert_eq!(
        commit(&store, PackageCommit::at(&package, 0)).await,
        Committed::Refused
    );
    assert_eq!(
        commit(&store, PackageCommit::at(&package, 1)).await,
        Committed::Applied
    );
}
