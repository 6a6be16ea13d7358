//! Contract: rebuilds by id, attempts, work.

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::decision::RebuildIndex;
use feedsme::model::id::{ChangeId, Digest, RebuildId};
use feedsme::model::package::RowKey;
use feedsme::model::work::{Job, Shard, Work};
use feedsme::store::{Attempt, Store, all_pending};

use super::Place;
use super::fixtures::{env, name, unique, version};

pub async fn a_rebuild_is_found_by_its_id(place: &impl Place) {
    let store = place.open().await;
    let index = |key: RowKey| RebuildIndex {
        id: RebuildId::fresh(),
        name: name("@s/child"),
        key,
        generation: 3,
        change: ChangeId::new("m-1"),
        decided: 1_700_000_000_000,
    };
    let publish = index(RowKey::publish(&version("1.0.1-0")));
    let promotion = index(RowKey::promotion(&version("1.0.1-0"), &env("test")));
    store
        .put_rebuilds(&[publish.clone(), promotion.clone()])
        .await
        .unwrap();
    let mut other = publish.clone();
    (other.generation, other.name) = (4, name("other"));
    store.put_rebuilds(&[other]).await.unwrap();
    let ids = [
        promotion.id.clone(),
        RebuildId::fresh(),
        publish.id.clone(),
        promotion.id.clone(),
    ];
    let expected = [
        Some(promotion.clone()),
        None,
        Some(publish),
        Some(promotion),
    ];
    assert_eq!(store.rebuilds(&ids).await.unwrap(), expected);
    assert_eq!(store.rebuilds(&[]).await.unwrap(), []);

    let many: Vec<_> = (0..2_100)
        .map(|_| index(RowKey::publish(&version("1.0.1-0"))))
        .collect();
    store.put_rebuilds(&many).await.unwrap();
    let ids: Vec<_> = many.iter().map(|index| index.id.clone()).collect();
    assert!(
        store
            .rebuilds(&ids)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .eq(many)
    );
}

fn attempt(number: u32) -> Attempt {
    Attempt {
        number,
        started: 1_700_000_000_000,
        ended: 1_700_000_000_001,
        owner: "replica-1".into(),
        outcome: "retry".into(),
        neighbour: "build_service".into(),
        may_have_reached: number.is_multiple_of(2),
        status: Some(503),
        message: "503 \"away\"\nfor now".into(),
    }
}

pub async fn the_first_result_of_an_attempt_stays(place: &impl Place) {
    let store = place.open().await;
    let rebuild = RebuildId::fresh();
    assert_eq!(store.attempts(&rebuild).await.unwrap(), []);
    let mut without_answer = attempt(3);
    without_answer.status = None;
    let expected = [
        attempt(1),
        attempt(2),
        without_answer,
        attempt(9),
        attempt(10),
        attempt(u32::MAX),
    ];
    for at in [4, 0, 5, 2, 1, 3] {
        store.put_attempt(&rebuild, &expected[at]).await.unwrap();
    }
    let mut second = attempt(2);
    (second.outcome, second.status, second.may_have_reached) = ("sent".into(), Some(200), false);
    store.put_attempt(&rebuild, &second).await.unwrap();
    assert_eq!(store.attempts(&rebuild).await.unwrap(), expected);
    assert_eq!(store.attempts(&RebuildId::fresh()).await.unwrap(), []);
}

fn item(id: &str, due: i64) -> Work {
    let key = RowKey::promotion(&version("1.0.1-0"), &env("test"));
    let job = Job::Send {
        rebuild: RebuildId::new("r-1"),
        key,
        order: 1 << 40,
    };
    Work {
        id: id.into(),
        package: name("@s/child"),
        due,
        job,
    }
}

pub async fn work_is_left_as_it_is_and_can_be_put_again(place: &impl Place) {
    let store = place.open().await;
    let id = format!("again/{}/1", unique());
    let first = item(&id, 1);
    store.put_work(std::slice::from_ref(&first)).await.unwrap();
    store.put_work(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(pending(&*store, &id).await, Some(first.clone()));
    store
        .finish_work(std::slice::from_ref(&first))
        .await
        .unwrap();
    assert_eq!(pending(&*store, &id).await, None);
    // Finishing twice, or what is not there, is no mistake.
    store
        .finish_work(&[first, item(&format!("never/{}", unique()), 1)])
        .await
        .unwrap();
    let second = item(&id, 3);
    store.put_work(std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(pending(&*store, &id).await, Some(second));
    store.put_work(&[]).await.unwrap();
    store.finish_work(&[]).await.unwrap();

    let plan = Work::plan(
        &ChangeId::new(unique()),
        &Digest::of(b"x"),
        &name("@s/root"),
        -7,
    );
    store.put_work(std::slice::from_ref(&plan)).await.unwrap();
    assert_eq!(pending(&*store, &plan.id).await, Some(plan));
}

/// The item of that id among all that are not finished.
pub async fn pending(store: &dyn Store, id: &str) -> Option<Work> {
    let all = all_pending(store).await.unwrap();
    all.into_iter().find(|work| work.id == id)
}

pub async fn all_pending_work_of_a_shard_comes_page_by_page(place: &impl Place) {
    let store = place.open().await;
    let run = format!("pages/{}/", unique());
    // More than a page in one shard, and some in others.
    let mut expected: Vec<_> = (0..1_234)
        .map(|at| item(&format!("{run}{at}"), at))
        .collect();
    for at in 0..200 {
        let mut other = item(&format!("{run}other/{at}"), at);
        other.package = name(&format!("child-{at}"));
        expected.push(other);
    }
    expected.rotate_left(1_000);
    store.put_work(&expected).await.unwrap();
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    let mut seen: Vec<Work> = Vec::new();
    for shard in Shard::all() {
        let mut cursor: Option<String> = None;
        loop {
            let (page, next) = store.pending_work(shard, cursor.as_deref()).await.unwrap();
            assert!(page.iter().all(|work| work.shard() == shard));
            seen.extend(page.into_iter().filter(|work| work.id.starts_with(&run)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
    }
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(seen == expected);
}

pub async fn a_store_that_works_says_so(place: &impl Place) {
    let store = place.open().await;
    store.check().await.unwrap();
    store.check().await.unwrap();
}
