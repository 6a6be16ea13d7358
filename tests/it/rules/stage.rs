//! A stage: one service and one set of neighbours, and short words for what tests do with them.

use crate::places::Place;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use feedsme::app::{self, Running};
use feedsme::ingest;
use feedsme::model::document::Document;
use feedsme::model::id::ChangeId;
use feedsme::model::name::PackageName;
use feedsme::neighbours::Endpoint;
use feedsme::sandbox::{Fault, FaultKind, Received, Role, Sandbox, SandboxOptions, Tarball};
use feedsme::semver::Version;
use feedsme::settings::Settings;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a neighbour took it, slowly perhaps.
fn is_taken(received: &Received) -> bool {
    let outcome = &received.outcome;
    let slowly = outcome.starts_with("fault: slow");
    ["published", "queued"]
        .iter()
        .any(|done| outcome == done || (slowly && outcome.ends_with(&format!("({done})"))))
}

/// The service between its neighbours.
pub struct Stage {
    pub sandbox: Sandbox,
    pub settings: Settings,
    pub running: Option<Running>,
    pub client: reqwest::Client,
    by_hand: AtomicUsize,
    place: Place,
}

/// A publish document without attachments, as the build service passes it on.
pub fn doc(name: &str, version: &str, dependencies: &Value) -> Value {
    json!({
        "_id": name,
        "name": name,
        "dist-tags": {"latest": version},
        "versions": {version: {"name": name, "version": version, "dependencies": dependencies}},
    })
}

/// One dependency.
pub fn on(parent: &str, range: &str) -> Value {
    json!({parent: range})
}

impl Stage {
    /// With a warehouse.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Publishes go to the build service.
    pub async fn without_warehouse() -> Self {
        Self::with(|settings| settings.warehouse = None).await
    }

    /// With other settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::made(SandboxOptions::default(), change).await
    }

    /// With other neighbours and settings.
    pub async fn made(options: SandboxOptions, change: impl FnOnce(&mut Settings)) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let place = Place::new();
        let mut settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            store: place.address(),
            build_service: Some(Endpoint::new(sandbox.build_service_url())),
            warehouse: Some(Endpoint::new(sandbox.warehouse_url())),
            registry: Some(Endpoint::new(sandbox.registry_url())),
            shutdown_grace: Duration::from_millis(200),
            ..Settings::default()
        };
        change(&mut settings);
        let running = app::start(&settings).await.unwrap();
        // Whoever has yet to tell it something finds it there after a restart.
        settings.listen = running.address;
        sandbox.report_to(&running.url());
        Self {
            sandbox,
            settings,
            running: Some(running),
            client: reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .build()
                .unwrap(),
            by_hand: AtomicUsize::new(0),
            place,
        }
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The SQLite file, if the test runs on one.
    pub fn database(&self) -> Option<std::path::PathBuf> {
        self.place.path()
    }

    /// Stops the service and starts it again on the same store.
    pub async fn restart(&mut self) {
        self.running.take().unwrap().stop().await;
        let running = app::start(&self.settings).await.unwrap();
        self.sandbox.report_to(&running.url());
        self.running = Some(running);
    }

    /// Nothing is left to do, nothing senseless was sent, no line is in a loop; then everything stops.
    pub async fn end(self) {
        self.quiet().await;
        self.sensible();
        let mut cursor = String::new();
        loop {
            let page = self.read(&format!("/changes?limit=500{cursor}")).await;
            for change in page["items"].as_array().unwrap() {
                assert!(!change["planned"].is_null(), "{change}");
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        for name in self.read("/packages?limit=500").await["items"]
            .as_array()
            .unwrap()
        {
            self.chain(name.as_str().unwrap()).await;
        }
        self.stop().await;
    }

    /// Everything stops, whatever is left to do.
    pub async fn stop(mut self) {
        self.sandbox.stop().await;
        self.running.take().unwrap().stop().await;
    }

    // ---- what people and neighbours do

    /// Publishes by hand and waits until everything that follows is done; the change's id.
    pub async fn publish(&self, name: &str, version: &str, dependencies: Value) -> String {
        self.publish_document(doc(name, version, &dependencies))
            .await
    }

    /// The same with a whole document.
    pub async fn publish_document(&self, document: Value) -> String {
        let id = self.hand(document).await;
        self.quiet().await;
        id
    }

    /// Publishes by hand: registry, build, notice. Waits until it is planned; the change's id.
    pub async fn hand(&self, document: Value) -> String {
        let id = id_of(&document);
        self.by_hand.fetch_add(1, Ordering::SeqCst);
        // Not by the sandbox's own function, whose client reads all the system's certificates each time.
        let url = format!("{}/publish", self.sandbox.control_url());
        let body = json!({"document": document, "size": 2048, "notify": true});
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        self.planned(&id).await;
        id
    }

    /// Puts a version into the registry that nobody is told of.
    pub fn in_registry(&self, name: &str, version: &str) {
        self.sandbox
            .publish(doc(name, version, &json!({})), &Tarball::Synthetic(2048))
            .unwrap();
    }

    /// Posts the notice of a publish as the build service does, without a build; the change's id.
    pub async fn notice(&self, mut document: Value) -> String {
        document["__published"] = json!(true);
        self.change("/v2/change/dev", &json!({"data": document}))
            .await
    }

    /// Posts a promotion; the change's id.
    pub async fn promote_only(&self, name: &str, version: &str, env: &str) -> String {
        let mut document = doc(name, version, &json!({}));
        document["env"] = json!(env);
        self.change(
            &format!("/v2/change/{env}"),
            &json!({"data": document, "promote": true}),
        )
        .await
    }

    /// Posts a promotion and waits until everything that follows is done; the change's id.
    pub async fn promote(&self, name: &str, version: &str, env: &str) -> String {
        let id = self.promote_only(name, version, env).await;
        self.quiet().await;
        id
    }

    // ---- HTTP

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.running().url());
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// GET of something that is there.
    pub async fn read(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with(path, &[], body).await
    }

    pub async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.running().url());
        let mut request = self.client.post(url).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// POST of a change that must be accepted; waits until it is planned; its id.
    pub async fn change(&self, path: &str, body: &Value) -> String {
        self.change_with(path, &[], body).await
    }

    pub async fn change_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> String {
        let (status, answer) = self.post_with(path, headers, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let id = answer["id"].as_str().unwrap().to_owned();
        self.planned(&id).await;
        id
    }

    // ---- waiting

    /// Waits until a change is there and planned; the change.
    pub async fn planned(&self, id: &str) -> Value {
        self.until(&format!("/changes/{id}"), |change| {
            change["planned"].is_string()
        })
        .await
    }

    /// Reads until `seen` holds.
    pub async fn until(&self, path: &str, mut seen: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, body) = self.get(path).await;
            if seen(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path}: {body:#}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the service has nothing to do now or later and every notice that is due has come.
    pub async fn quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut times = 0;
        loop {
            let idle = self.running().inbox.status().await.unwrap().is_idle();
            let requests = self.sandbox.requests();
            let count = |is: &dyn Fn(&Received) -> bool| requests.iter().filter(|r| is(r)).count();
            let published = count(&|r| r.role == Role::Warehouse && is_taken(r));
            let from_warehouse = count(&|r| r.role == Role::Build && r.from_warehouse);
            let queued = count(&|r| r.role == Role::Build && is_taken(r));
            let noticed = count(&|r| {
                r.role == Role::Notice && (r.status == Some(200) || r.outcome.starts_with("fault"))
            });
            let hand = self.by_hand.load(Ordering::SeqCst);
            let under_way = count(&|r| r.finished.is_none() && !r.outcome.starts_with("fault"));
            let complete =
                under_way == 0 && published + hand <= from_warehouse && queued <= noticed;
            times = if idle && complete { times + 1 } else { 0 };
            if times == 2 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "never quiet: idle {idle}, published {published}, by hand {hand}, built {from_warehouse}, queued \
                 {queued}, noticed {noticed}\n{}",
                shown(&requests)
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets no notice of this package through any more; what was sent is given back to redeliver it.
    pub fn hold_notices(&self, package: &str, times: u32) {
        let fault = Fault::once(Role::Notice, FaultKind::Hang).of(package);
        self.sandbox.fail(fault.times(times));
    }

    /// Posts the notice of what was sent, as the build service does.
    pub async fn redeliver(&self, package: &str, version: &str) -> String {
        let requests = self.sandbox.requests();
        let sent = requests
            .iter()
            .rev()
            .find(|r| {
                [Role::Build, Role::Warehouse].contains(&r.role)
                    && r.package.as_deref() == Some(package)
                    && r.version.as_deref() == Some(version)
            })
            .unwrap_or_else(|| panic!("{package}@{version} was not sent\n{}", shown(&requests)));
        let document = sent.document.clone().unwrap();
        let env = text(&document["env"]);
        self.change(
            &format!("/v2/change/{env}"),
            &json!({"data": document, "promote": true}),
        )
        .await
    }

    /// Makes a version known without its publish, as an import does.
    pub async fn import(&self, document: &Value) {
        self.sandbox
            .publish(document.clone(), &Tarball::Synthetic(2048))
            .unwrap();
        let document = Document::from_json(document.as_object().unwrap().clone(), "").unwrap();
        ingest::import(&self.running().core, &document)
            .await
            .unwrap();
    }

    /// Waits until the record of the neighbours is as wanted.
    pub async fn seen(&self, seen: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        match self.sandbox.wait_for(seen, PATIENCE).await {
            Ok(found) => found,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the rebuild of a change's decision stands like this and the result of every attempt is known (a notice
    /// may come before that); the rebuild.
    pub async fn rebuild_is(&self, change: &str, dependent: &str, state: &str) -> Value {
        let change = self
            .until(&format!("/changes/{change}"), |change| {
                rebuild_of(change, dependent).is_some_and(|rebuild| {
                    let last = rebuild["attempts"].as_array().and_then(|all| all.last());
                    let known = last.map_or(&Value::Null, |one| &one["number"]);
                    rebuild["state"] == state
                        && (rebuild["attempt"] == 0 || rebuild["attempt"] == *known)
                })
            })
            .await;
        let id = rebuild_of(&change, dependent).unwrap()["id"].clone();
        self.read(&format!("/rebuilds/{}", id.as_str().unwrap()))
            .await
    }

    // ---- what there is to see

    /// What the neighbours were asked in these roles, the warehouse's own builds left out.
    pub fn received(&self, roles: &[Role]) -> Vec<Received> {
        let mut requests = self.sandbox.requests();
        requests.retain(|r| roles.contains(&r.role) && !r.from_warehouse);
        requests
    }

    /// What they took, in their order: `publish child@5.0.1-0`, `build child@5.0.1-0 test`.
    pub fn taken(&self) -> Vec<String> {
        self.received(&[Role::Build, Role::Warehouse])
            .iter()
            .filter(|r| is_taken(r))
            .map(|r| {
                let (name, version) = (r.package.as_deref(), r.version.as_deref());
                let what = format!("{}@{}", name.unwrap_or("-"), version.unwrap_or("-"));
                match r.role {
                    Role::Warehouse => format!("publish {what}"),
                    _ => format!("build {what} {}", r.env.as_deref().unwrap_or("-")),
                }
            })
            .collect()
    }

    /// Nothing senseless was sent.
    fn sensible(&self) {
        for sent in self.received(&[Role::Build, Role::Warehouse]) {
            // None if the sender broke off in the middle.
            let Some(document) = sent.document.as_ref() else {
                assert!(!is_taken(&sent), "{}", sent.summary());
                continue;
            };
            let version = sent.version.as_deref().unwrap_or_default();
            let manifest = &document["versions"][version];
            assert!(Version::parse(version).is_ok(), "{}", sent.summary());
            assert_eq!(manifest["version"], version, "{}", sent.summary());
            assert_eq!(manifest["name"], document["name"], "{}", sent.summary());
            let file = format!("{}-{version}.tgz", text(&document["name"]));
            let tarball = sent.tarball().unwrap();
            assert_eq!(tarball.name, file, "{}", sent.summary());
            assert!(tarball.valid && tarball.bytes > 0, "{}", sent.summary());
            assert_eq!(sent.attachments.len(), 1, "{}", sent.summary());
            assert!(sent.idempotency_key.is_some(), "{}", sent.summary());
        }
    }

    /// What they took since the last time this was asked. Only when it is quiet.
    pub fn news(&self) -> Vec<String> {
        self.sensible();
        let taken = self.taken();
        // Those who count what is outstanding must not lose what was forgotten.
        self.sandbox.forget_requests();
        self.by_hand.store(0, Ordering::SeqCst);
        taken
    }

    /// A line as (previous, dependents).
    pub async fn line(&self, name: &str, version: &str) -> Value {
        self.read(&format!(
            "/release-line/{}/{version}",
            name.replace('/', "%2F")
        ))
        .await
    }

    pub async fn line_is(
        &self,
        name: &str,
        version: &str,
        previous: Option<&str>,
        dependents: Value,
    ) {
        let expected = json!({"pkg": name, "version": version, "previousVersion": previous, "dependents": dependents});
        assert_eq!(self.line(name, version).await, expected);
    }

    /// The dependents of a line.
    pub async fn goes_with(&self, name: &str, version: &str) -> Value {
        self.line(name, version).await["dependents"].clone()
    }

    pub async fn no_line(&self, name: &str, version: &str) {
        let (status, body) = self.get(&format!("/release-line/{name}/{version}")).await;
        assert_eq!(status, 404, "{body}");
    }

    pub async fn head(&self, name: &str) -> String {
        let path = format!("/release-line/{}", name.replace('/', "%2F"));
        self.read(&path).await["version"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The versions of the lines from the head backwards; fails on a loop.
    pub async fn chain(&self, name: &str) -> Vec<String> {
        let encoded = name.replace('/', "%2F");
        let (status, mut line) = self.get(&format!("/release-line/{encoded}")).await;
        let mut chain = Vec::new();
        if status != 200 {
            return chain;
        }
        loop {
            let version = line["version"].as_str().unwrap().to_owned();
            assert!(
                !chain.contains(&version),
                "{name}: a loop {chain:?} {version}"
            );
            chain.push(version);
            let Some(previous) = line["previousVersion"].as_str() else {
                return chain;
            };
            line = self.line(name, previous).await;
        }
    }

    /// The decisions of a change: dependent → `rebuild 5.0.1-0 admitted` or `skip out_of_range`.
    pub async fn why(&self, id: &str) -> BTreeMap<String, String> {
        let change = self.planned(id).await;
        let decisions = change["decisions"]["items"].as_array().unwrap();
        decisions
            .iter()
            .map(|one| {
                let said = match one["version"].as_str() {
                    Some(version) => format!(
                        "{} {version} {}",
                        text(&one["decision"]),
                        text(&one["reason"])
                    ),
                    None => format!("{} {}", text(&one["decision"]), text(&one["reason"])),
                };
                (text(&one["dependent"]), said)
            })
            .collect()
    }

    /// The decisions as a list to compare with.
    pub async fn decided(&self, id: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> = expected
            .iter()
            .map(|(dependent, said)| ((*dependent).to_owned(), (*said).to_owned()))
            .collect();
        assert_eq!(self.why(id).await, expected);
    }

    /// What the change turned out to be.
    pub async fn verdict(&self, id: &str) -> String {
        text(&self.planned(id).await["verdict"]["code"])
    }

    /// A version as `/packages/{name}/versions` shows it.
    pub async fn version(&self, name: &str, version: &str) -> Value {
        let path = format!("/packages/{}/versions?limit=500", name.replace('/', "%2F"));
        let page = self.read(&path).await;
        let versions = page["items"].as_array().unwrap();
        versions
            .iter()
            .find(|one| one["version"] == version)
            .unwrap_or_else(|| panic!("{name}@{version} is not in {page:#}"))
            .clone()
    }
}

/// The id of the change that a document's publish is.
pub fn id_of(document: &Value) -> String {
    let tags = document["dist-tags"].as_object();
    let (tag, version) = tags
        .and_then(|tags| tags.get_key_value("latest").or_else(|| tags.iter().next()))
        .map(|(tag, version)| (Some(tag.as_str()), version))
        .or_else(|| Some((None, document.get("version")?)))
        .unwrap();
    let tag = tag.filter(|tag| *tag != "latest");
    let name = PackageName::parse(document["name"].as_str().unwrap()).unwrap();
    let version = Version::parse(version.as_str().unwrap()).unwrap();
    ChangeId::of_publish(&name, &version, tag).to_string()
}

/// The rebuild in a change's decision about a dependent; the last one, if it was given another version.
pub fn rebuild_of<'a>(change: &'a Value, dependent: &str) -> Option<&'a Value> {
    let decisions = change["decisions"]["items"].as_array()?;
    decisions
        .iter()
        .rev()
        .filter(|one| one["dependent"] == dependent)
        .map(|one| &one["rebuild"])
        .find(|rebuild| !rebuild.is_null())
}

/// The outcomes of a rebuild's attempts, in their order.
pub fn outcomes(rebuild: &Value) -> Vec<&str> {
    let attempts = rebuild["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|one| one["outcome"].as_str().unwrap())
        .collect()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn shown(requests: &[Received]) -> String {
    let lines: Vec<String> = requests.iter().map(Received::summary).collect();
    lines.join("\n")
}
