//! The command line (design.md 7).

mod client;
mod impact;
mod import;
mod migrate;
mod operate;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Command, FromArgMatches as _};

/// Rebuilds the dependents of an npm package when a new version is published: in order, once, never lost.
#[derive(clap::Parser)]
#[command(name = "feedsme", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(clap::Subcommand)]
enum Commands {
    /// Run the service
    Serve(serve::Serve),
    /// Make the keyspace of a Cassandra store, or bring its tables up to date
    Migrate(migrate::Migrate),
    /// Make known what was published before, from an npm registry or a keyspace of the Node software
    Import(Box<import::Import>),
    /// Show what posting a change would come to; nothing is written
    Plan(operate::Plan),
    /// Show whom a version would reach, through all levels
    Impact(impact::Impact),
    /// Say why a package was rebuilt, or was not, or not yet
    Why(operate::Why),
    /// List waves, newest first, or show, approve or cancel one
    Waves(operate::Waves),
    /// Keep a package, or one dependency of it, from being rebuilt
    Hold(operate::Hold),
    /// End a hold; what was held is rebuilt as one wave
    Unhold(operate::Unhold),
    /// List what is held
    Holds(operate::Holds),
    /// Show it at work on Babel's real history: starts the service with stand-in neighbours, on loopback
    Demo(crate::demo::Demo),
}

/// Where the settings are named.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFile {
    /// The settings file [default: feedsme.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "FEEDSME_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The whole command, with a flag for every setting below `serve`, `migrate` and `import`.
pub fn command() -> Command {
    let command = <Cli as clap::CommandFactory>::command();
    command
        .mut_subcommand("serve", serve::with_setting_flags)
        .mut_subcommand("migrate", serve::with_setting_flags)
        .mut_subcommand("import", serve::with_setting_flags)
}

/// Parses the arguments and runs. 0: done; 1: it failed; 2: the arguments or settings are wrong.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("feedsme: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let flags = matches
        .subcommand()
        .map(|(_, matches)| serve::setting_flags(matches))
        .unwrap_or_default();
    let commands = Commands::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match commands {
        Commands::Serve(serve) => runtime.block_on(serve.run(&flags)),
        Commands::Migrate(migrate) => runtime.block_on(migrate.run(&flags)),
        Commands::Import(import) => runtime.block_on(import.run(&flags)),
        Commands::Plan(plan) => runtime.block_on(plan.run()),
        Commands::Impact(impact) => Ok(runtime.block_on(impact.run())),
        Commands::Why(why) => Ok(runtime.block_on(why.run())),
        Commands::Waves(waves) => Ok(runtime.block_on(waves.run())),
        Commands::Hold(hold) => Ok(runtime.block_on(hold.run())),
        Commands::Unhold(unhold) => Ok(runtime.block_on(unhold.run())),
        Commands::Holds(holds) => Ok(runtime.block_on(holds.run())),
        Commands::Demo(demo) => runtime.block_on(demo.run()),
    }
}
