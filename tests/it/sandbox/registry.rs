//! The npm registry: packuments, tarballs, tags.

use super::{of, sandbox};
use feedsme::sandbox::{Role, Tarball, synthetic};
use serde_json::{Value, json};

#[tokio::test]
async fn packuments_and_tarballs_of_scoped_names_plain_and_encoded() {
    let (sandbox, client) = sandbox().await;
    let package =
        json!({"name": "@s/c", "version": "1.0.0", "dependencies": {"root": "^5"}, "scripts": {}});
    sandbox
        .publish(package.clone(), &Tarball::Synthetic(70_000))
        .unwrap();
    assert!(sandbox.publish(package, &Tarball::Synthetic(1)).is_err());
    let registry = sandbox.registry_url();
    for name in ["@s/c", "@s%2Fc", "%40s%2fc"] {
        let full = client
            .get(format!("{registry}/{name}"))
            .send()
            .await
            .unwrap();
        assert_eq!(full.headers()["content-type"], "application/json");
        let full: Value = full.json().await.unwrap();
        assert_eq!(full["name"], "@s/c");
        assert!(full["time"]["1.0.0"].is_string());
        let short = client
            .get(format!("{registry}/{name}"))
            .header(
                "Accept",
                "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8",
            )
            .send()
            .await
            .unwrap();
        let short: Value = short.json().await.unwrap();
        let keys: Vec<_> = short.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "modified", "dist-tags", "versions"]);
        let version = &short["versions"]["1.0.0"];
        assert_eq!(version["dependencies"], json!({"root": "^5"}));
        assert_eq!(version.get("scripts"), None);
        assert!(
            version["dist"]["integrity"]
                .as_str()
                .unwrap()
                .starts_with("sha512-")
        );
    }
    let expected = synthetic("@s/c", "1.0.0", 70_000);
    for file in [
        "@s/c/-/c-1.0.0.tgz",
        "@s/c/-/@s/c-1.0.0.tgz",
        "@s%2fc/-/c-1.0.0.tgz",
    ] {
        let response = client
            .get(format!("{registry}/{file}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["content-length"], "70000", "{file}");
        assert!(response.bytes().await.unwrap() == expected);
        let head = client
            .head(format!("{registry}/{file}"))
            .send()
            .await
            .unwrap();
        assert_eq!(head.headers()["content-length"], "70000", "{file}");
    }
    for unknown in ["nope", "@s/c/-/c-2.0.0.tgz", "@s/nope/-/nope-1.0.0.tgz"] {
        let response = client
            .get(format!("{registry}/{unknown}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404, "{unknown}");
    }
    let packuments = of(&sandbox.requests(), Role::Packument).len();
    assert_eq!(packuments, 7);
}

#[tokio::test]
async fn dist_tags_are_moved() {
    let (sandbox, client) = sandbox().await;
    for version in ["1.0.0", "1.1.0"] {
        let package = json!({"name": "@s/c", "version": version});
        sandbox.publish(package, &Tarball::Synthetic(1)).unwrap();
    }
    let tags = format!("{}/-/package/@s%2Fc/dist-tags", sandbox.registry_url());
    let tag = async |tag: &str, version: &str| {
        let request = client.put(format!("{tags}/{tag}")).json(version);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(tag("test", "1.0.0").await, (201, json!({"test": "1.0.0"})));
    assert_eq!(tag("test", "9.0.0").await.0, 404);
    let all: Value = client
        .get(&tags)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(all, json!({"latest": "1.1.0", "test": "1.0.0"}));
    assert_eq!(sandbox.requests()[0].role, Role::DistTag);
}
