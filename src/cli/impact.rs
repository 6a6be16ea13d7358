//! `feedsme impact`: whom a version would reach.

use std::process::ExitCode;

use super::client::{Ask, AskError, names, text};
use super::operate::{ended, items, section};

/// Show whom a version would reach, through all levels; quick however many there are
#[derive(Clone, Debug, clap::Args)]
pub struct Impact {
    /// The package, and the version to ask about [default: whichever comes next and is let in like the highest one]
    #[arg(value_name = "NAME[@VERSION]")]
    package: String,
    /// How many packages to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    ask: Ask,
}

impl Impact {
    /// Runs it. 0: answered; 1: the service said no.
    pub async fn run(&self) -> ExitCode {
        ended(self.show().await)
    }

    async fn show(&self) -> Result<(), AskError> {
        // The first `@` may begin a scope.
        let at = self.package.char_indices().skip(1);
        let at = at.filter(|(_, letter)| *letter == '@').last();
        let (name, version) = match at {
            Some((at, _)) => (&self.package[..at], Some(&self.package[at + 1..])),
            None => (self.package.as_str(), None),
        };
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(version.map(|version| ("version", version.to_owned())));
        let impact = self.ask.get(&["packages", name, "impact"], &query).await?;
        if self.ask.shown_as_json(&impact) {
            return Ok(());
        }
        println!("{}", text(&impact, "sentence"));
        let affected = items(&impact["affected"]["items"]).map(|one| {
            let (base, version) = (text(one, "base"), text(one, "version"));
            vec![
                one["level"].to_string(),
                text(one, "package").to_owned(),
                format!("{base} → {version}"),
            ]
        });
        section(&["level", "package", "version"], affected);
        if !impact["affected"]["next"].is_null() {
            println!("… and more: --limit, or --json");
        }
        let out = items(&impact["out_of_range"]).map(|one| {
            let version = one["parent_version"].as_str().unwrap_or("the next version");
            vec![
                format!("{}@{}", text(one, "package"), text(one, "version")),
                format!("{} {}", text(one, "parent"), text(one, "range")),
                version.to_owned(),
            ]
        });
        section(&["out of range", "declares", "does not let in"], out);
        let chain = &impact["longest_chain"];
        if items(chain).len() > 0 {
            println!("\nlongest chain: {}", names(chain).replace(", ", " → "));
        }
        if impact["counts"]["circles"] != 0 {
            println!("circles: {}", impact["counts"]["circles"]);
        }
        Ok(())
    }
}
