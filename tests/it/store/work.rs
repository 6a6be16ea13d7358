//! Contract: rebuilds by id, attempts, work.

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::decision::RebuildIndex;
use feedsme::model::id::{ChangeId, Digest, RebuildId};
use feedsme::model::package::RowKey;
use feedsme::model::work::{Job, Work};
use feedsme::store::Attempt;

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
    let before = &id[..id.len() - 1];
    let first = item(&id, 1);
    store.put_work(std::slice::from_ref(&first)).await.unwrap();
    store.put_work(&[item(&id, 2)]).await.unwrap();
    assert_eq!(store.pending_work(Some(before), 1).await.unwrap(), [first]);
    store.finish_work(std::slice::from_ref(&id)).await.unwrap();
    // Finishing twice, or what is not there, is no mistake.
    store
        .finish_work(&[id.clone(), format!("never/{}", unique())])
        .await
        .unwrap();
    let second = item(&id, 3);
    store.put_work(std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(store.pending_work(Some(before), 1).await.unwrap(), [second]);
    store.put_work(&[]).await.unwrap();
    store.finish_work(&[]).await.unwrap();

    let plan = Work::plan(
        &ChangeId::new(unique()),
        &Digest::of(b"x"),
        &name("@s/root"),
        -7,
    );
    store.put_work(std::slice::from_ref(&plan)).await.unwrap();
    let before = &plan.id[..plan.id.len() - 1];
    assert_eq!(store.pending_work(Some(before), 1).await.unwrap(), [plan]);
}

pub async fn pending_work_comes_in_pages_in_the_order_of_ids(place: &impl Place) {
    let store = place.open().await;
    let run = format!("pages/{}/", unique());
    let mut expected: Vec<_> = (0..2_345)
        .map(|at| item(&format!("{run}{at}"), at))
        .collect();
    expected.rotate_left(1_000);
    store.put_work(&expected).await.unwrap();
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    for limit in [1_000, 335, 2_345, 5_000] {
        let mut seen: Vec<Work> = Vec::new();
        while seen.len() < expected.len() {
            let after = seen.last().map_or(run.clone(), |work| work.id.clone());
            let page = store.pending_work(Some(&after), limit).await.unwrap();
            assert!(!page.is_empty() && page.len() <= limit);
            seen.extend(page.into_iter().filter(|work| work.id.starts_with(&run)));
        }
        assert!(seen == expected, "in pages of {limit}");
    }
    assert_eq!(store.pending_work(None, 0).await.unwrap(), []);
    let first = store.pending_work(None, 10).await.unwrap();
    assert!(first.len() == 10 && first.is_sorted_by(|a, b| a.id < b.id));
    // None is before every id.
    assert!(first[0].id <= expected[0].id);
}

pub async fn a_store_that_works_says_so(place: &impl Place) {
    let store = place.open().await;
    store.check().await.unwrap();
    store.check().await.unwrap();
}
