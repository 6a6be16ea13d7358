//! `feedsme plan`, `why`, `waves`, `hold`, `unhold`, `holds`: what operators ask a running service, and tell it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Ask, AskError, names, table, text};
use crate::model::name::PackageName;

type Error = Box<dyn std::error::Error>;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);

/// 0 and what was printed, or 1 and what the service said.
pub(super) fn ended(done: Result<(), AskError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("feedsme: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Show what posting a change would come to; nothing is written
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// A publish document or package.json, or {"name": …, "version": …} of a known version; - reads standard input
    file: PathBuf,
    /// The environment to promote to [default: it is a publish, unless the file names one]
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Plan {
    /// Runs it. 0: foreseen; 1: the service said no; 2: the file cannot be read.
    pub async fn run(&self) -> Result<ExitCode, Error> {
        let mut bytes = Vec::new();
        if self.file.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut bytes)?;
        } else {
            let shown = self.file.display();
            bytes = std::fs::read(&self.file).map_err(|error| format!("{shown}: {error}"))?;
        }
        Ok(ended(self.show(bytes).await))
    }

    async fn show(&self, bytes: Vec<u8>) -> Result<(), AskError> {
        let mut path = vec!["plan"];
        path.extend(self.env.as_deref());
        let plan = self.ask.send(Method::POST, &path, &[], Some(bytes)).await?;
        if self.ask.shown_as_json(&plan) {
            return Ok(());
        }
        println!("{}", text(&plan, "sentence"));
        let row = |node: &Value| {
            let base = &node["inputs"]["base"];
            let to = match node["version"].as_str() {
                Some(version) if Some(version) != base.as_str() => {
                    format!("{} → {version}", base.as_str().unwrap_or_default())
                }
                _ => base.as_str().unwrap_or_default().to_owned(),
            };
            vec![
                node["level"].to_string(),
                text(node, "package").to_owned(),
                text(node, "decision").to_owned(),
                to,
                names(&node["waits_for"]),
                text(node, "reason").replace('_', " "),
            ]
        };
        let head = [
            "level",
            "package",
            "decision",
            "version",
            "waits for",
            "reason",
        ];
        section(&head, items(&plan["nodes"]).map(row));
        let skips = items(&plan["skips"]).map(|skip| {
            vec![
                text(skip, "dependent").to_owned(),
                text(skip, "sentence").to_owned(),
            ]
        });
        section(&["skipped", "because"], skips);
        let path = names(&plan["critical_path"]);
        if !path.is_empty() {
            println!("\nlongest chain: {}", path.replace(", ", " → "));
        }
        for circle in items(&plan["components"]) {
            println!("in a circle: {}", names(circle));
        }
        Ok(())
    }
}

/// Say why a package was rebuilt, or was not, or not yet
#[derive(Clone, Debug, clap::Args)]
pub struct Why {
    package: PackageName,
    /// On behalf of which version [default: what concerned the package last]
    #[arg(long, value_name = "NAME@VERSION")]
    root: Option<String>,
    /// In which environment [default: the first]
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Why {
    /// Runs it. 0: answered; 1: the service said no.
    pub async fn run(&self) -> ExitCode {
        ended(self.show().await)
    }

    async fn show(&self) -> Result<(), AskError> {
        let mut query = Vec::new();
        query.extend(self.root.clone().map(|root| ("root", root)));
        query.extend(self.env.clone().map(|env| ("env", env)));
        let why = self
            .ask
            .get(&["why", self.package.as_str()], &query)
            .await?;
        if self.ask.shown_as_json(&why) {
            return Ok(());
        }
        println!("{}", text(&why, "sentence"));
        if let Some(wave) = why["wave"]["id"].as_str() {
            println!("\nwave {wave}: {}", text(&why["wave"], "sentence"));
        }
        let decided = items(&why["decisions"]).map(|one| {
            let inputs = &one["inputs"];
            vec![
                text(one, "decision").to_owned(),
                format!(
                    "{}@{}",
                    text(inputs, "parent"),
                    text(inputs, "parent_version")
                ),
                text(one, "reason").replace('_', " "),
                text(one, "version").to_owned(),
                text(&one["rebuild"], "state").to_owned(),
            ]
        });
        let head = ["decided", "for", "reason", "version", "state"];
        section(&head, decided);
        let attempts = items(&why["node"]["rebuild"]["attempts"]).map(|one| {
            vec![
                one["number"].to_string(),
                text(one, "ended").to_owned(),
                text(one, "outcome").to_owned(),
                text(one, "message").to_owned(),
            ]
        });
        section(&["attempt", "ended", "outcome", "said"], attempts);
        for one in items(&why["holds"]) {
            println!("\nheld: {}", text(one, "sentence"));
        }
        for one in items(&why["stale"]["because"]) {
            let with = one["built_with"].as_str().unwrap_or("none");
            println!(
                "\nstale: built with {parent} {with}, and {parent}@{} is there",
                text(one, "version"),
                parent = text(one, "parent")
            );
        }
        Ok(())
    }
}

/// List waves, newest first, or show one
#[derive(Clone, Debug, clap::Args)]
pub struct Waves {
    /// The wave to show
    id: Option<String>,
    /// Only those in this state: collecting, planning, awaiting, open, closed or cancelled
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    /// Look again every second until it has ended
    #[arg(long, requires = "id")]
    watch: bool,
    /// Let it go, if it waits for approval
    #[arg(long, requires = "id", conflicts_with = "cancel")]
    approve: bool,
    /// End it: what was not sent is not sent
    #[arg(long, requires = "id")]
    cancel: bool,
    /// How many to list, or packages to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    ask: Ask,
}

impl Waves {
    /// Runs it. 0: shown, and with `--watch`: everything in it was published; 1: the service said no, or with `--watch`:
    /// something was not.
    pub async fn run(&self) -> ExitCode {
        match self.show().await {
            Ok(code) => code,
            Err(error) => ended(Err(error)),
        }
    }

    async fn show(&self) -> Result<ExitCode, AskError> {
        let limit = ("limit", self.limit.to_string());
        let Some(id) = &self.id else {
            let mut query = vec![limit];
            query.extend(self.state.clone().map(|state| ("state", state)));
            let waves = self.ask.get(&["waves"], &query).await?;
            if !self.ask.shown_as_json(&waves) {
                let rows = items(&waves["items"]).map(|wave| {
                    vec![
                        text(wave, "id").to_owned(),
                        text(wave, "state").to_owned(),
                        text(wave, "opened").to_owned(),
                        wave["nodes"].to_string(),
                        text(wave, "sentence").to_owned(),
                    ]
                });
                let head = ["wave", "state", "opened", "packages", ""];
                table(&head, &rows.collect::<Vec<_>>());
            }
            return Ok(ExitCode::SUCCESS);
        };
        for (told, word) in [(self.approve, "approve"), (self.cancel, "cancel")] {
            if told {
                let path = ["waves", id, word];
                self.ask.send(Method::POST, &path, &[], None).await?;
            }
        }
        let mut before = Value::Null;
        loop {
            let query = [limit.clone()];
            let wave = self.ask.get(&["waves", id], &query).await?;
            if wave != before && !self.ask.shown_as_json(&wave) {
                if !before.is_null() {
                    println!();
                }
                show_wave(&wave);
            }
            let over = matches!(text(&wave, "state"), "closed" | "cancelled");
            if !self.watch || over {
                let done = text(&wave, "state") == "closed"
                    && ["failed", "late"]
                        .iter()
                        .all(|one| wave["counts"][one].is_null());
                return Ok(if self.watch && !done {
                    ExitCode::FAILURE
                } else {
                    ExitCode::SUCCESS
                });
            }
            before = wave;
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn show_wave(wave: &Value) {
    println!("{}", text(wave, "sentence"));
    let counts = wave["counts"].as_object();
    let counts = counts.into_iter().flatten();
    let counts: Vec<String> = counts
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    println!("{}", counts.join(", "));
    let rows = items(&wave["packages"]["items"]).map(|node| {
        let version = node["published"].as_str().or(node["predicted"].as_str());
        let base = text(node, "base");
        let version = version
            .filter(|version| *version != base)
            .map_or_else(|| base.to_owned(), |version| format!("{base} → {version}"));
        vec![
            node["level"].to_string(),
            text(node, "package").to_owned(),
            text(node, "standing").to_owned(),
            version,
            names(&node["waits_for"]),
        ]
    });
    let head = ["level", "package", "standing", "version", "waits for"];
    section(&head, rows);
    if !wave["packages"]["next"].is_null() {
        println!("… and more: --limit, or --json");
    }
}

/// Keep a package, or one dependency of it, from being rebuilt
#[derive(Clone, Debug, clap::Args)]
pub struct Hold {
    package: PackageName,
    /// Only on behalf of this dependency
    #[arg(long, value_name = "NAME")]
    parent: Option<PackageName>,
    /// Who wants it
    #[arg(long, value_name = "WHO", env = "USER")]
    owner: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// Until when: a time such as 2026-11-02T10:00:00Z, or a duration such as 2h or 7d [default: until it is removed]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Hold {
    /// Runs it. 0: held; 1: the service said no.
    pub async fn run(&self) -> ExitCode {
        ended(self.put().await)
    }

    async fn put(&self) -> Result<(), AskError> {
        let body = json!({"owner": self.owner, "reason": self.reason, "expires": self.expires});
        let path = ["holds", self.package.as_str()];
        let body = body.to_string().into_bytes();
        let query = edge(self.parent.as_ref());
        let held = self
            .ask
            .send(Method::PUT, &path, &query, Some(body))
            .await?;
        if !self.ask.shown_as_json(&held) {
            println!("{}", text(&held, "sentence"));
        }
        Ok(())
    }
}

/// End a hold; what was held is rebuilt as one wave
#[derive(Clone, Debug, clap::Args)]
pub struct Unhold {
    package: PackageName,
    /// The hold on this dependency only
    #[arg(long, value_name = "NAME")]
    parent: Option<PackageName>,
    #[command(flatten)]
    ask: Ask,
}

impl Unhold {
    /// Runs it. 0: ended; 1: there is none, or the service said no.
    pub async fn run(&self) -> ExitCode {
        ended(self.delete().await)
    }

    async fn delete(&self) -> Result<(), AskError> {
        let path = ["holds", self.package.as_str()];
        let query = edge(self.parent.as_ref());
        let done = self.ask.send(Method::DELETE, &path, &query, None).await?;
        if !self.ask.shown_as_json(&done) {
            println!("{} is no longer held", self.package);
        }
        Ok(())
    }
}

/// List what is held
#[derive(Clone, Debug, clap::Args)]
pub struct Holds {
    #[command(flatten)]
    ask: Ask,
}

impl Holds {
    /// Runs it. 0: listed; 1: the service said no.
    pub async fn run(&self) -> ExitCode {
        ended(self.show().await)
    }

    async fn show(&self) -> Result<(), AskError> {
        let query = [("limit", "500".to_owned())];
        let holds = self.ask.get(&["holds"], &query).await?;
        if self.ask.shown_as_json(&holds) {
            return Ok(());
        }
        let rows = items(&holds["items"]).map(|hold| {
            vec![
                text(hold, "package").to_owned(),
                hold["parent"].as_str().unwrap_or("all").to_owned(),
                text(hold, "owner").to_owned(),
                hold["expires"].as_str().unwrap_or("removed").to_owned(),
                text(hold, "reason").to_owned(),
            ]
        });
        let head = ["package", "for", "owner", "until", "reason"];
        table(&head, &rows.collect::<Vec<_>>());
        Ok(())
    }
}

fn edge(parent: Option<&PackageName>) -> Vec<(&'static str, String)> {
    let parent = parent.map(|parent| ("parent", parent.to_string()));
    parent.into_iter().collect()
}

pub(super) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// A table with an empty line before it, if it has rows.
pub(super) fn section(head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        println!();
        table(head, &rows);
    }
}
