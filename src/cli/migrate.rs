//! `feedsme migrate`.

use std::process::ExitCode;

use super::ConfigFile;
use crate::settings::Settings;
use crate::store::cassandra::migrate;

/// Make the keyspace of a Cassandra store, or bring its tables up to date; safe to run at any time, also by several at once
#[derive(Clone, Debug, clap::Args)]
pub struct Migrate {
    #[command(flatten)]
    config: ConfigFile,
}

impl Migrate {
    /// Runs it. An SQLite file needs none: `serve` does it.
    pub async fn run(
        &self,
        flags: &[(String, String)],
    ) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let settings = Settings::load(self.config.config.as_deref(), std::env::vars(), flags)?;
        let options = settings
            .cassandra
            .options(&settings.store, settings.retain)?;
        let Some(options) = options else {
            println!(
                "{}: nothing to do, serve brings a file up to date by itself",
                settings.store
            );
            return Ok(ExitCode::SUCCESS);
        };
        let done = migrate(&options, &settings.cassandra.replication()?).await?;
        if done.applied.is_empty() {
            println!("{}: schema {}, nothing to do", settings.store, done.schema);
        } else {
            println!("{}: schema {} is in place", settings.store, done.schema);
        }
        Ok(ExitCode::SUCCESS)
    }
}
