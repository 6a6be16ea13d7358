//! Contract: documents, changes, decisions.

#[allow(unused_imports)]
use super::puts::Puts as _;
use feedsme::model::change::{Change, Verdict};
use feedsme::model::decision::{Decision, Reason, RebuildIndex};
use feedsme::model::id::{ChangeId, Digest, RebuildId};
use feedsme::model::package::{Kind, Millis, RebuildState, RowKey};
use feedsme::model::work::Work;
use feedsme::store::Write;

use super::Place;
use super::fixtures::{
    applied, bare_rebuild, change, change_id, decision, env, name, package, planned, reserve,
    unique, version, wave,
};
use super::work::pending;

pub async fn documents_are_kept_by_change_and_digest(place: &impl Place) {
    let store = place.open().await;
    let id = change_id();
    let large = vec![b'"'; 1 << 20];
    let (first, second) = (Digest::of(b"{}"), Digest::of(&large));
    assert_eq!(store.document(&id, &first).await.unwrap(), None);
    store.put_document(&id, &first, b"{}").await.unwrap();
    store.put_document(&id, &second, &large).await.unwrap();
    store.put_document(&id, &first, b"{}").await.unwrap();
    assert_eq!(
        store.document(&id, &first).await.unwrap().as_deref(),
        Some(&b"{}"[..])
    );
    assert!(
        store.document(&id, &second).await.unwrap() == Some(large),
        "the large document came back changed"
    );
    assert_eq!(store.document(&change_id(), &first).await.unwrap(), None);
}

pub async fn a_change_is_kept_whole_and_left_as_it_is(place: &impl Place) {
    let store = place.open().await;
    let full = change();
    let mut bare = change();
    (bare.kind, bare.tag, bare.promote, bare.key) = (Kind::Publish, None, false, None);
    let mut imported = change();
    imported.planned = Some(planned(Verdict::Opened));
    assert_eq!(store.change(&full.id).await.unwrap(), None);
    for one in [&full, &bare, &imported] {
        store.put_change(one).await.unwrap();
        assert_eq!(store.change(&one.id).await.unwrap().as_ref(), Some(one));
    }
    let mut other = change();
    other.id = full.id.clone();
    other.accepted += 1;
    other.tag = None;
    store.put_change(&other).await.unwrap();
    assert_eq!(store.change(&full.id).await.unwrap(), Some(full));
}

pub async fn what_planning_made_of_a_change_is_written_once(place: &impl Place) {
    let store = place.open().await;
    let verdicts = [
        Verdict::Opened,
        Verdict::Answers {
            rebuild: RebuildId::new("r"),
            waves: vec![wave(), wave()],
        },
        Verdict::TookPlace {
            rebuilds: vec![RebuildId::new("r")],
            waves: vec![wave()],
        },
        Verdict::Joined { wave: wave() },
        Verdict::Duplicate {
            of: ChangeId::new("m-1"),
        },
        Verdict::Tagged { tag: "next".into() },
        Verdict::NoReleaseLine,
    ];
    for verdict in verdicts {
        let mut change = change();
        store.put_change(&change).await.unwrap();
        let planned = planned(verdict);
        store.set_planned(&change.id, &planned).await.unwrap();
        let mut second = planned.clone();
        second.rebuilds += 1;
        store.set_planned(&change.id, &second).await.unwrap();
        change.planned = Some(planned);
        assert_eq!(
            store.change(&change.id).await.unwrap().as_ref(),
            Some(&change)
        );
        // Not even by accepting it again.
        change.planned = None;
        store.put_change(&change).await.unwrap();
        assert!(
            store
                .change(&change.id)
                .await
                .unwrap()
                .unwrap()
                .planned
                .is_some()
        );
    }
}

pub async fn accepting_keeps_document_change_and_work_every_time(place: &impl Place) {
    let store = place.open().await;
    let first = change();
    let work = Work::plan(&first.id, &first.digest, &first.name, 5);
    store.accept(&first, b"document", &work).await.unwrap();
    assert_eq!(
        store.change(&first.id).await.unwrap().as_ref(),
        Some(&first)
    );
    assert_eq!(
        store
            .document(&first.id, &first.digest)
            .await
            .unwrap()
            .as_deref(),
        Some(&b"document"[..])
    );
    assert_eq!(pending(&*store, &work.id).await, Some(work.clone()));

    // The same publish with another document (H19): the change stays, document and work are new.
    let mut second = first.clone();
    second.digest = Digest::of(b"other");
    second.accepted += 1;
    let other = Work::plan(&second.id, &second.digest, &second.name, 6);
    store.accept(&second, b"other", &other).await.unwrap();
    assert_eq!(
        store.change(&first.id).await.unwrap().as_ref(),
        Some(&first)
    );
    assert_eq!(
        store
            .document(&first.id, &second.digest)
            .await
            .unwrap()
            .as_deref(),
        Some(&b"other"[..])
    );
    assert_eq!(pending(&*store, &other.id).await, Some(other));

    // A repeat after the work was done has work again (H3).
    store
        .finish_work(std::slice::from_ref(&work))
        .await
        .unwrap();
    store.accept(&first, b"document", &work).await.unwrap();
    assert_eq!(pending(&*store, &work.id).await, Some(work));
}

pub async fn changes_are_listed_newest_first(place: &impl Place) {
    let store = place.open().await;
    // A span of time that no other test uses.
    let start: Millis = 4_000_000_000_000 + Millis::from(uuid::Uuid::new_v4().as_fields().0) * 1000;
    let run = unique();
    let mut expected = Vec::new();
    for at in 0..7 {
        let mut change = change();
        // Three of the same moment, to be told apart by id.
        change.accepted = start + Millis::min(at, 4);
        change.id = ChangeId::new(format!("{run}-{at}"));
        expected.push(change);
    }
    for change in [3, 0, 6, 2, 5, 1, 4].map(|at: usize| &expected[at]) {
        store.put_change(change).await.unwrap();
    }
    expected.reverse();

    let newest = |change: &feedsme::model::change::Change| (change.accepted, change.id.clone());
    for limit in [1, 3, 7, 100] {
        let mut seen = Vec::new();
        let mut before = Some((start + 5, ChangeId::new("")));
        loop {
            let page = store.changes(before.clone(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            let ours = page.len();
            seen.extend(
                page.into_iter()
                    .filter(|change| change.id.as_str().starts_with(&run)),
            );
            if last || seen.len() >= 7 || ours == 0 {
                break;
            }
            before = seen.last().map(newest);
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
    // Without a start, from the newest of all.
    let first = store.changes(None, 1).await.unwrap();
    assert!(newest(&first[0]) >= newest(&expected[0]));
    assert_eq!(store.changes(None, 0).await.unwrap(), []);
    let times: Vec<_> = store
        .changes(None, 50)
        .await
        .unwrap()
        .iter()
        .map(newest)
        .collect();
    assert!(times.is_sorted_by(|a, b| a > b));
}

pub async fn decisions_keep_their_first_value_and_come_in_the_order_of_their_keys(
    place: &impl Place,
) {
    let store = place.open().await;
    let change = change_id();
    let (first, second) = (
        wave().min(wave()),
        feedsme::model::id::WaveId::new(format!("z{}", unique())),
    );
    let mut bare = decision("b", &first);
    (bare.range, bare.top, bare.base, bare.version, bare.rebuild) = (None, None, None, None, None);
    (bare.reason, bare.flags) = (
        Reason::AlreadyThereNewer {
            there: version("1.0.0"),
        },
        Vec::new(),
    );
    let mut another = decision("b", &first);
    another.version = Some(version("5.9.1-1"));
    let expected: Vec<Decision> = vec![
        decision("@s/a", &first),
        decision("a", &first),
        bare,
        decision("b", &first),
        another,
        decision("a", &second),
    ];
    assert_eq!(store.decisions(&change, 0, 10).await.unwrap(), []);
    let mut shuffled = expected.clone();
    shuffled.rotate_left(2);
    shuffled.swap(0, 1);
    store.put_decisions(&change, &shuffled).await.unwrap();
    let mut later = expected.clone();
    for decision in &mut later {
        decision.parent = name("other");
        decision.reason = Reason::OutOfRange;
    }
    store.put_decisions(&change, &later).await.unwrap();
    store.put_decisions(&change, &[]).await.unwrap();

    assert_eq!(store.decisions(&change, 0, 100).await.unwrap(), expected);
    for skip in 0..=6 {
        for limit in 0..=6 {
            let page = store.decisions(&change, skip, limit).await.unwrap();
            assert_eq!(
                page,
                expected[skip..expected.len().min(skip + limit)],
                "{limit} after {skip}"
            );
        }
    }

    let reasons = change_id();
    let all = [
        Reason::Admitted,
        Reason::OlderAdmitted,
        Reason::InReleaseLine,
        Reason::HighestThatAdmits,
        Reason::OutOfRange,
        Reason::AdmitsNothing,
        Reason::NoLongerDepends,
        Reason::AlreadyInWave,
        Reason::NotInReleaseLine,
        Reason::SupersededInPromotion {
            by: version("1.0.0-0"),
        },
        Reason::PublishedByHand {
            version: version("2.0.0"),
        },
        Reason::NoVersionLeft,
    ];
    let mut expected = Vec::new();
    for (at, reason) in all.into_iter().enumerate() {
        let mut decision = decision(&format!("d{at:02}"), &first);
        (decision.reason, decision.env) = (reason, env("prod"));
        expected.push(decision);
    }
    store.put_decisions(&reasons, &expected).await.unwrap();
    assert_eq!(store.decisions(&reasons, 0, 100).await.unwrap(), expected);
}

pub async fn what_is_of_the_past_ends_unless_something_is_left_to_send(place: &impl Place) {
    let store = place.open().await;
    // A store whose entries end by themselves has nothing to prune, and its entries cannot be written in the past.
    if store.is_shared() {
        assert_eq!(store.prune(Millis::MAX).await.unwrap(), 0);
        return;
    }
    let mut kept = Vec::new();
    for (accepted, state, ends) in [
        (1_000, RebuildState::Published, true),
        (2_000, RebuildState::Queued, false),
        (9_000, RebuildState::Published, false),
    ] {
        let change = Change {
            accepted,
            planned: Some(planned(Verdict::Opened)),
            ..change()
        };
        let package = package("past");
        let mut rebuild = bare_rebuild();
        (rebuild.id, rebuild.state) = (RebuildId::fresh(), state);
        rebuild.decision.rebuild = Some(rebuild.id.clone());
        let row = reserve("1.0.1-0", 1, &rebuild);
        applied(&store, &package, 0, vec![row]).await;
        let index = RebuildIndex {
            id: rebuild.id.clone(),
            name: package,
            key: RowKey::publish(&version("1.0.1-0")),
            generation: 1,
            change: change.id.clone(),
            decided: accepted,
        };
        store
            .write(vec![
                Write::Document {
                    change: change.id.clone(),
                    digest: change.digest.clone(),
                    json: b"{}".to_vec(),
                },
                Write::Change(Box::new(change.clone())),
                Write::Decision(change.id.clone(), Box::new(rebuild.decision)),
                Write::Rebuild(index),
            ])
            .await
            .unwrap();
        kept.push((change, rebuild.id, ends));
    }
    assert_eq!(store.prune(5_000).await.unwrap(), 1);
    assert_eq!(store.prune(5_000).await.unwrap(), 0);
    for (change, id, ended) in kept {
        assert_eq!(store.change(&change.id).await.unwrap().is_none(), ended);
        let document = store.document(&change.id, &change.digest).await.unwrap();
        assert_eq!(document.is_none(), ended);
        assert_eq!(
            store.decisions(&change.id, 0, 9).await.unwrap().is_empty(),
            ended
        );
        assert_eq!(store.rebuilds(&[id]).await.unwrap()[0].is_none(), ended);
    }
}

pub async fn a_change_that_was_accepted_again_does_not_shorten_a_page(place: &impl Place) {
    let store = place.open().await;
    // A span of time that no other test uses.
    let start: Millis = 8_400_000_000_000 + Millis::from(uuid::Uuid::new_v4().as_fields().0) * 100;
    let mut expected = Vec::new();
    for at in 0..6 {
        let first = Change {
            accepted: start + at,
            ..change()
        };
        // The same again and again, each time a little later.
        for again in 0..4 {
            let same = Change {
                accepted: start + at + 10 * again,
                ..first.clone()
            };
            store
                .write(vec![Write::Change(Box::new(same))])
                .await
                .unwrap();
        }
        expected.insert(0, first.id);
    }
    let mut before = Some((start + 100, ChangeId::new("")));
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let page = store.changes(before, 2).await.unwrap();
        assert_eq!(page.len(), 2);
        before = page.last().map(|last| (last.accepted, last.id.clone()));
        seen.extend(page.into_iter().map(|change| change.id));
    }
    assert_eq!(seen, expected);
}
