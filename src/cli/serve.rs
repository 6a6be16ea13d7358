//! `feedsme serve`.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::ConfigFile;
use crate::settings::{Settings, flag_name, flags};
use crate::{app, telemetry};

/// Run the service.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// Print the settings as they would be used, secrets hidden, and stop
    #[arg(long)]
    check: bool,
}

/// Adds a flag for every setting.
pub fn with_setting_flags(command: Command) -> Command {
    flags().into_iter().fold(command, |command, (path, help)| {
        let flag = flag_name(&path);
        let heading = match path.split_once('.') {
            None => "Settings".to_owned(),
            Some(("cassandra", _)) => "Settings of Cassandra".to_owned(),
            Some((neighbour, _)) => format!("Settings of the {}", neighbour.replace('_', " ")),
        };
        command.arg(
            Arg::new(path)
                .long(flag)
                .value_name("VALUE")
                .help(help)
                .help_heading(heading),
        )
    })
}

/// The settings that were given as flags.
pub fn setting_flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let given = |path: &str| {
        let value = matches.try_get_one::<String>(path).ok().flatten()?;
        Some((path.to_owned(), value.clone()))
    };
    flags().iter().filter_map(|(path, _)| given(path)).collect()
}

impl Serve {
    /// Reads the settings and runs, or shows them.
    pub async fn run(
        &self,
        flags: &[(String, String)],
    ) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let settings = Settings::load(self.config.config.as_deref(), std::env::vars(), flags)?;
        telemetry::start(&settings.log, settings.log_format)?;
        if self.check {
            app::neighbours(&settings)?;
            print!("{}", toml::to_string(&settings)?);
            return Ok(ExitCode::SUCCESS);
        }
        app::run(&settings).await?;
        Ok(ExitCode::SUCCESS)
    }
}
