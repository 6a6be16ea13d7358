//! From a registry.

use feedsme::app;
use feedsme::sandbox::{Fault, FaultKind, Role, Tarball};
use serde_json::{Value, json};

use super::{Imported, import, nothing_was_sent};
use crate::rules::stage::{Stage, doc, on};

/// Puts a version into the registry that nobody is told of.
fn there(stage: &Stage, name: &str, version: &str, dependencies: &Value) {
    put(stage, doc(name, version, dependencies));
}

fn put(stage: &Stage, document: Value) {
    stage
        .sandbox
        .publish(document, &Tarball::Synthetic(2048))
        .unwrap();
}

/// Stops the service, imports, and starts it again.
async fn offline(stage: &mut Stage, arguments: &[&str]) -> Imported {
    stage.running.take().unwrap().stop().await;
    let done = import(&stage.settings.store, arguments).await;
    let running = app::start(&stage.settings).await.unwrap();
    stage.sandbox.report_to(&running.url());
    stage.running = Some(running);
    done
}

/// All there is to a package: versions out of order, another tag, increments of the Node software, an alias, a scope, a
/// dropped dependency.
fn history(stage: &Stage) {
    let to_root = on("root", "^1.0.0");
    there(stage, "root", "1.0.0", &json!({}));
    there(stage, "root", "1.1.0", &json!({}));
    let mut next = doc("root", "2.0.0-beta.0", &json!({}));
    next["dist-tags"] = json!({"next": "2.0.0-beta.0"});
    put(stage, next);
    there(stage, "child", "1.0.0", &to_root);
    there(stage, "child", "2.0.0", &on("root", "^2.0.0"));
    there(stage, "mid", "1.0.0", &to_root);
    there(stage, "mid", "1.0.1-0", &to_root);
    there(stage, "@s/alias", "1.0.0", &on("r", "npm:root@^1.0.0"));
    there(stage, "@s/dropped", "1.0.0", &to_root);
    there(stage, "@s/dropped", "1.1.0", &json!({}));
    there(stage, "unmanaged", "1.0.0", &to_root);
}

#[tokio::test]
async fn what_is_in_a_registry_is_known_and_rebuilt_when_a_parent_is_published() {
    let mut stage = Stage::new().await;
    history(&stage);
    let registry = stage.sandbox.registry_url();
    let all = [
        "root",
        "child",
        "mid",
        "root",
        "--scope=@s",
        &format!("--from-registry={registry}"),
    ];
    let done = offline(&mut stage, &all).await;
    done.is(10, 0);
    assert_eq!(done.summary["packages"], 5);
    assert!(
        done.said.contains("@s: 2 packages by the search"),
        "{}",
        done.said
    );
    nothing_was_sent(&stage.sandbox);

    assert_eq!(
        stage.read("/packages").await["items"],
        json!(["@s/alias", "@s/dropped", "child", "mid", "root"])
    );
    let root = stage.read("/packages/root").await;
    assert_eq!(
        (&root["highest"], &root["head"]),
        (&json!("1.1.0"), &Value::Null)
    );
    assert_eq!(stage.version("root", "2.0.0-beta.0").await["tag"], "next");
    assert_eq!(stage.version("mid", "1.0.1-0").await["origin"], "1.0.0");

    // Nothing follows from an import, however long one waits; what is published after it finds its dependents.
    stage.quiet().await;
    nothing_was_sent(&stage.sandbox);
    let id = stage.publish("root", "1.2.0", json!({})).await;
    stage
        .decided(
            &id,
            &[
                ("child", "rebuild 1.0.1-0 older_admitted"),
                ("mid", "rebuild 1.0.1-1 admitted"),
                ("@s/alias", "rebuild 1.0.1-0 admitted"),
                ("@s/dropped", "skip no_longer_depends"),
            ],
        )
        .await;
    assert_eq!(
        stage.goes_with("root", "1.2.0").await,
        json!({"child": "1.0.1-0", "mid": "1.0.1-1", "@s/alias": "1.0.1-0"})
    );
    // What was sent is the full manifest, which the build service needs.
    let sent = stage.sandbox.requests();
    let sent = sent
        .iter()
        .find(|one| one.role == Role::Warehouse && one.package.as_deref() == Some("@s/alias"))
        .unwrap();
    let manifest = &sent.document.as_ref().unwrap()["versions"]["1.0.1-0"];
    assert_eq!(manifest["dependencies"], on("r", "npm:root@^1.0.0"));

    // Again: all is known, also what was published since.
    let done = offline(&mut stage, &all).await;
    assert_eq!(
        (done.code, &done.summary["new"]),
        (Some(0), &json!(0)),
        "{}",
        done.said
    );
    stage.end().await;
}

/// H4: what is imported is not noticed.
#[tokio::test]
async fn h4_the_publish_of_an_imported_version_is_still_handled() {
    let mut stage = Stage::new().await;
    there(&stage, "root", "1.0.0", &json!({}));
    there(&stage, "root", "1.1.0", &json!({}));
    there(&stage, "child", "1.0.0", &on("root", "^1.0.0"));
    // The registry of the settings.
    let registry = format!("--registry-url={}", stage.sandbox.registry_url());
    let done = offline(&mut stage, &["root", "child", &registry]).await;
    done.is(3, 0);
    let id = stage.notice(doc("root", "1.1.0", &json!({}))).await;
    stage.quiet().await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn what_fails_is_named_and_the_others_go_on() {
    let mut stage = Stage::new().await;
    there(&stage, "root", "1.0.0", &json!({}));
    there(&stage, "flaky", "1.0.0", &json!({}));
    there(&stage, "odd", "1.0.0", &json!({}));
    let mut odd = doc("odd", "1.1.0", &json!({"root": 5}));
    odd["versions"]["no version"] = json!({});
    put(&stage, odd);
    there(&stage, "refused", "1.0.0", &json!({}));
    let sandbox = &stage.sandbox;
    sandbox.fail(Fault::once(Role::Packument, FaultKind::status(500)).of("flaky"));
    sandbox.fail(Fault::once(Role::Packument, FaultKind::Cut).of("flaky"));
    sandbox.fail(Fault::always(Role::Packument, FaultKind::status(401)).of("refused"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# ours\nroot\nnowhere\nrefused\n").unwrap();
    let names = format!("--names={}", file.path().display());
    let registry = format!("--from-registry={}", sandbox.registry_url());
    let done = offline(&mut stage, &["flaky", "odd", &names, &registry]).await;
    assert_eq!(done.code, Some(1), "{}", done.said);
    assert_eq!(done.summary["new"], 3, "{}", done.summary);
    let failed = done.failed();
    let failed: Vec<(&str, &str)> = failed
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    assert_eq!(failed[0], ("nowhere", "the registry does not have it"));
    assert_eq!(failed[1].0, "odd@1.1.0");
    assert!(
        failed[1].1.contains("dependencies.root: must be a range"),
        "{failed:?}"
    );
    assert_eq!(failed[2], ("odd@no version", "is no version"));
    assert_eq!(failed[3].0, "refused");
    assert!(failed[3].1.contains("401"), "{failed:?}");
    assert_eq!(failed.len(), 4);
    assert_eq!(
        stage.read("/packages").await["items"],
        json!(["flaky", "odd", "root"])
    );
    let output = super::output(super::command(&stage.settings.store, &[])).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to import"));
    stage.end().await;
}

/// A store is one process's: an import beside the running service is refused, and changes nothing.
#[tokio::test]
async fn a_file_that_a_service_works_on_is_refused() {
    let stage = Stage::new().await;
    if stage.database().is_none() {
        return stage.stop().await;
    }
    there(&stage, "root", "1.0.0", &json!({}));
    let registry = format!("--from-registry={}", stage.sandbox.registry_url());
    let done = import(&stage.settings.store, &["root", &registry]).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.said.contains("in use by another feedsme") && done.said.contains("stop the service"),
        "{}",
        done.said
    );
    assert_eq!(stage.read("/packages").await["items"], json!([]));
    stage.end().await;
}

#[tokio::test]
async fn a_scope_that_a_registry_does_not_list_is_an_error_that_says_what_to_do() {
    let stage = Stage::new().await;
    let registry = format!("--from-registry={}", stage.sandbox.registry_url());
    let place = tempfile::tempdir().unwrap();
    let store = feedsme::settings::StoreAddress::file(place.path().join("a"));
    let done = import(&store, &["--scope=nobody", &registry]).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.said.contains("lists no packages of @nobody") && done.said.contains("--names"),
        "{}",
        done.said
    );
    stage.end().await;
}
