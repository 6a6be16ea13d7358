//! `feedsme import` as a program: what it makes known, what follows from that later, and what it survives. Imports from a
//! keyspace are in `tests/it/node/cassandra/import.rs`, because the Node software fills it.

mod killed;
mod registry;

use std::process::{Command, Output, Stdio};

use feedsme::sandbox::{Role, Sandbox};
use feedsme::settings::StoreAddress;
use serde_json::{Value, json};

/// What an import came to.
pub struct Imported {
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// What it printed with `--json`; null if nothing.
    pub summary: Value,
    /// What it complained of.
    pub said: String,
}

impl Imported {
    /// It must have gone well, with so many versions new and known before.
    pub fn is(&self, new: u64, known: u64) {
        let counts = json!([self.summary["new"], self.summary["known"]]);
        assert_eq!(
            (self.code, counts),
            (Some(0), json!([new, known])),
            "{}\n{}",
            self.summary,
            self.said
        );
    }

    /// What could not be imported.
    pub fn failed(&self) -> Vec<(String, String)> {
        let failed = self.summary["failed"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        failed
            .iter()
            .map(|one| (text(&one["what"]), text(&one["why"])))
            .collect()
    }
}

/// The command, with nothing of the environment.
pub fn command(store: &StoreAddress, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feedsme"));
    command
        .env_clear()
        .arg("import")
        .arg(format!("--store={store}"))
        .args(["--json", "--log=warn"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    run.await.unwrap()
}

/// Runs an import to its end.
pub async fn import(store: &StoreAddress, arguments: &[&str]) -> Imported {
    let output = output(command(store, arguments)).await;
    Imported {
        code: output.status.code(),
        summary: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Nothing was asked of the neighbours but packuments.
pub fn nothing_was_sent(sandbox: &Sandbox) {
    for one in sandbox.requests() {
        assert_eq!(one.role, Role::Packument, "{}", one.summary());
    }
}
