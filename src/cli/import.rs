//! `feedsme import`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ConfigFile;
use crate::import::{Limits, Summary, keyspace, names, registry};
use crate::ingest::{Clock, Core};
use crate::model::name::PackageName;
use crate::neighbours::{Endpoint, Registry};
use crate::settings::{CassandraSettings, Settings, StoreAddress};
use crate::store::cassandra::{Options, WarehouseKeyspace};
use crate::{app, telemetry};

type Error = Box<dyn std::error::Error>;

/// Make known what was published before, from an npm registry or from a keyspace of the Node software. Sends nothing; can
/// be stopped at any time and run again. The service must not run on the same SQLite file, nor the Node software on the
/// same keyspace
#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    config: ConfigFile,
    /// Packages to import from the registry
    #[arg(value_name = "NAME", conflicts_with = "from")]
    packages: Vec<PackageName>,
    /// The Node software's keyspace: cassandra://[user@]host[:port][,host]/keyspace
    #[arg(long, value_name = "ADDRESS", help_heading = "From a keyspace")]
    from: Option<String>,
    /// File that holds the password
    #[arg(
        long,
        value_name = "FILE",
        requires = "from",
        help_heading = "From a keyspace"
    )]
    from_password_file: Option<PathBuf>,
    /// Encrypt, and trust only the certificates in this PEM file
    #[arg(
        long,
        value_name = "FILE",
        requires = "from",
        help_heading = "From a keyspace"
    )]
    from_ca_file: Option<PathBuf>,
    /// The data center to read from
    #[arg(
        long,
        value_name = "NAME",
        requires = "from",
        help_heading = "From a keyspace"
    )]
    from_data_center: Option<String>,
    /// The registry [default: the setting registry]
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "from",
        help_heading = "From a registry"
    )]
    from_registry: Option<String>,
    /// All packages of a scope, as far as the registry lists them; may be given several times
    #[arg(
        long,
        value_name = "@SCOPE",
        conflicts_with = "from",
        help_heading = "From a registry"
    )]
    scope: Vec<String>,
    /// The packages named in a file, one a line
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "from",
        help_heading = "From a registry"
    )]
    names: Option<PathBuf>,
    /// File that holds a bearer token for the registry
    #[arg(
        long,
        value_name = "FILE",
        requires = "from_registry",
        help_heading = "From a registry"
    )]
    from_token_file: Option<PathBuf>,
    /// Packages worked at at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Print what it came to as JSON
    #[arg(long)]
    json: bool,
}

/// Where from, and how to get in.
enum Source {
    Keyspace(Options),
    Registry(Box<Registry>, Vec<PackageName>),
}

/// The same, connected.
enum Opened {
    Keyspace(Box<WarehouseKeyspace>),
    Registry(Box<Registry>, Vec<PackageName>),
}

impl Import {
    /// Runs it. 0: all is there; 1: something could not be imported, or a store is away; 2: the arguments are wrong.
    pub async fn run(&self, flags: &[(String, String)]) -> Result<ExitCode, Error> {
        let settings = Settings::load(self.config.config.as_deref(), std::env::vars(), flags)?;
        telemetry::start(&settings.log, settings.log_format)?;
        let listed = self.listed()?;
        if self.from.is_none() && listed.is_empty() && self.scope.is_empty() {
            return Err(
                "nothing to import: name packages, or give --scope, --names or --from".into(),
            );
        }
        let source = self.source(&settings, listed)?;
        let done = match Box::pin(self.import(&settings, source)).await {
            Ok(done) => done,
            Err(error) => {
                eprintln!("feedsme: {error}");
                return Ok(ExitCode::FAILURE);
            }
        };
        self.show(&done)?;
        Ok(if done.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The packages that are named, each once.
    fn listed(&self) -> Result<Vec<PackageName>, Error> {
        let mut listed = self.packages.clone();
        if let Some(file) = &self.names {
            let shown = file.display();
            let text =
                std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
            listed.extend(names::listed(&text).map_err(|error| format!("{shown}: {error}"))?);
        }
        listed.sort();
        listed.dedup();
        Ok(listed)
    }

    async fn import(&self, settings: &Settings, source: Source) -> Result<Summary, Error> {
        // What is to be read first: without it nothing of ours is touched.
        let opened = match source {
            Source::Keyspace(options) => {
                Opened::Keyspace(Box::new(WarehouseKeyspace::open(&options).await?))
            }
            Source::Registry(registry, listed) => {
                let names = self.with_scopes(&registry, &listed).await?;
                Opened::Registry(registry, names)
            }
        };
        let (store, _lock) = match Box::pin(app::open(settings)).await {
            Err(error @ app::AppError::InUse(_)) => {
                return Err(format!("{error}; stop the service while importing").into());
            }
            opened => opened?,
        };
        let core = Core::new(store.clone(), Arc::new(settings.rules()?), Clock::system());
        let limits = Limits {
            concurrency: self.concurrency.into(),
            document_limit: settings.document_limit,
            retries: (4, Duration::from_millis(500)),
        };
        let bar = bar();
        let done = match &opened {
            Opened::Keyspace(from) => keyspace::import(&core, from, &limits, &bar).await,
            Opened::Registry(from, names) => {
                registry::import(&core, from, names, &limits, &bar).await
            }
        };
        bar.finish_and_clear();
        drop(core);
        store.close().await?;
        Ok(done?)
    }

    fn source(&self, settings: &Settings, listed: Vec<PackageName>) -> Result<Source, Error> {
        if let Some(from) = &self.from {
            let address = StoreAddress::try_from(from.clone())?;
            let access = CassandraSettings {
                password_file: self.from_password_file.clone(),
                ca_file: self.from_ca_file.clone(),
                data_center: self.from_data_center.clone(),
                ..CassandraSettings::default()
            };
            let options = access
                .options(&address, settings.retain)?
                .ok_or("--from names no keyspace: it must be cassandra://host/keyspace")?;
            return Ok(Source::Keyspace(options));
        }
        let endpoint = match &self.from_registry {
            Some(url) => Endpoint {
                token_file: self.from_token_file.clone(),
                ..Endpoint::new(url)
            },
            None => Settings::needed("registry", settings.registry.as_ref())?.clone(),
        };
        Ok(Source::Registry(
            Box::new(Registry::new(&endpoint)?),
            listed,
        ))
    }

    /// The packages that are named and those of the scopes, each once.
    async fn with_scopes(
        &self,
        registry: &Registry,
        listed: &[PackageName],
    ) -> Result<Vec<PackageName>, Error> {
        let mut all = listed.to_vec();
        for scope in &self.scope {
            let (names, by) = names::of_scope(registry, scope).await?;
            eprintln!("{scope}: {} packages by {by}", names.len());
            all.extend(names);
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn show(&self, done: &Summary) -> Result<(), Error> {
        if self.json {
            println!("{}", serde_json::to_string(done)?);
            return Ok(());
        }
        println!(
            "{} packages: {} new versions, {} known before",
            done.packages, done.new, done.known
        );
        if self.from.is_some() {
            println!(
                "{} release lines with {} dependents",
                done.lines, done.pairs
            );
        }
        if done.unmanaged > 0 {
            println!(
                "{} rows left out: their packages have no row in table package",
                done.unmanaged
            );
        }
        if !done.failed.is_empty() {
            eprintln!("{} could not be imported:", done.failed.len());
            for failed in &done.failed {
                eprintln!("  {}: {}", failed.what, failed.why);
            }
        }
        Ok(())
    }
}

/// Only seen on a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos:>6}/{len} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar =
        ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
