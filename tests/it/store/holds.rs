//! Contract: holds, and what builds came to.

use feedsme::model::name::PackageName;
use feedsme::model::wave::{BuildOutcome, Hold};
use feedsme::store::Write;

use super::Place;
use super::fixtures::{env, name, package, unique, version};

fn hold(package: &PackageName, id: &str) -> Hold {
    Hold {
        id: id.into(),
        package: package.clone(),
        parent: Some(name("@s/root")),
        owner: "ops é".into(),
        reason: "release \"freeze\"".into(),
        placed: 1_700_000_000_000,
        expires: Some(1_700_000_100_000),
        ended: None,
    }
}

pub async fn a_hold_is_written_once_and_is_there_until_it_ends(place: &impl Place) {
    let store = place.open().await;
    let [this, other, never] = ["held", "other", "never"].map(package);
    let bare = Hold {
        parent: None,
        expires: None,
        ..hold(&this, "h-1")
    };
    let (second, apart) = (hold(&this, "h-2"), hold(&other, "h-1"));
    let changed = Hold {
        owner: "somebody else".into(),
        ..bare.clone()
    };
    for one in [&second, &bare, &apart, &changed] {
        store.write(vec![Write::Hold(one.clone())]).await.unwrap();
    }
    let packages = [never.clone(), this.clone(), other.clone(), this.clone()];
    let both = vec![bare.clone(), second.clone()];
    assert_eq!(
        store.holds(&packages).await.unwrap(),
        [vec![], both.clone(), vec![apart.clone()], both]
    );
    // An expired one is there until somebody says that it has ended; then it is gone for good.
    let ended = |id: &str, at| Write::HoldEnded(this.clone(), id.into(), at);
    store.write(vec![ended("h-1", 5)]).await.unwrap();
    let expected = [vec![], vec![second.clone()], vec![apart], vec![second]];
    assert_eq!(store.holds(&packages).await.unwrap(), expected);
    let again = vec![ended("h-1", 9), Write::Hold(bare.clone())];
    store.write(again).await.unwrap();
    assert_eq!(store.holds(&packages).await.unwrap(), expected);
    // One that is written with its end.
    let over = Hold {
        ended: Some(1),
        ..hold(&never, "h-1")
    };
    store.write(vec![Write::Hold(over)]).await.unwrap();
    assert_eq!(store.holds(&packages).await.unwrap(), expected);
    assert!(store.holds(&[]).await.unwrap().is_empty());
}

pub async fn all_holds_that_have_not_ended_come_in_pages(place: &impl Place) {
    let store = place.open().await;
    // Their names begin with something that no other test has.
    let start = format!("z{}", unique());
    let mut writes = Vec::new();
    let mut expected = Vec::new();
    for at in 0..130 {
        let package = name(&format!("{start}-{at:03}"));
        for id in ["a", "b"] {
            let one = hold(&package, id);
            writes.push(Write::Hold(one.clone()));
            // A long row of packages whose holds have all ended, and some more.
            if (10..90).contains(&at) || (at % 7 == 0 && id == "a") {
                writes.push(Write::HoldEnded(package.clone(), id.into(), 1));
            } else {
                expected.push(one);
            }
        }
    }
    let (holds, ends): (Vec<_>, Vec<_>) = writes
        .into_iter()
        .partition(|one| matches!(one, Write::Hold(_)));
    store.write(holds).await.unwrap();
    store.write(ends).await.unwrap();
    let before = name(&start);
    for limit in [1_000, 7, 1] {
        let mut seen: Vec<Hold> = Vec::new();
        while seen.len() < expected.len() {
            let after = seen
                .last()
                .map_or((&before, ""), |last| (&last.package, last.id.as_str()));
            let page = store.all_holds(Some(after), limit).await.unwrap();
            let ours = page
                .iter()
                .filter(|one| one.package.as_str().starts_with(&start));
            assert!(ours.count() > 0 && page.len() <= limit);
            seen.extend(page);
        }
        assert!(seen[..expected.len()] == expected, "by {limit}");
    }
    assert_eq!(store.all_holds(None, 0).await.unwrap(), []);
    assert!(!store.all_holds(None, 1).await.unwrap().is_empty());
}

pub async fn all_outcomes_of_a_version_are_kept_in_their_order(place: &impl Place) {
    let store = place.open().await;
    let this = package("built");
    let outcome = |at, ok, message: Option<&str>| BuildOutcome {
        name: this.clone(),
        version: version("1.0.1-0"),
        env: env("dev"),
        ok,
        message: message.map(str::to_owned),
        at,
    };
    let base = 1_700_000_000_000;
    let all = [
        outcome(base, false, Some("webpack \"é\"")),
        outcome(base + 1, true, None),
        outcome(base + 10, false, None),
    ];
    let elsewhere = BuildOutcome {
        env: env("prod"),
        ..all[0].clone()
    };
    let later = BuildOutcome {
        version: version("1.0.1-1"),
        ..all[0].clone()
    };
    for one in [&all[2], &all[0], &elsewhere, &all[1], &later, &all[0]] {
        store
            .write(vec![Write::Outcome(one.clone())])
            .await
            .unwrap();
    }
    let get = async |text: &str, at: &str| {
        store
            .outcomes(&this, &version(text), &env(at))
            .await
            .unwrap()
    };
    assert_eq!(get("1.0.1-0", "dev").await, all);
    assert_eq!(get("1.0.1-0", "prod").await, [elsewhere]);
    assert_eq!(get("1.0.1-1", "dev").await, [later]);
    assert_eq!(get("1.0.1-0", "test").await, []);
    // Two at the same moment are two.
    store
        .write(vec![Write::Outcome(outcome(base, true, None))])
        .await
        .unwrap();
    let four = get("1.0.1-0", "dev").await;
    assert_eq!(four.len(), 4);
    assert!(four[..2].contains(&all[0]) && four[..2].contains(&outcome(base, true, None)));
    assert_eq!(four[2..], all[1..]);
    if !store.is_shared() {
        assert_eq!(store.prune(base + 5).await.unwrap(), 5);
        assert_eq!(get("1.0.1-0", "dev").await, all[2..]);
    }
}
