//! `feedsme demo`: the service at work on a real history.

use std::process::ExitCode;

/// Show it at work on Babel's real history.
#[derive(Clone, Debug, clap::Args)]
pub struct Demo {
    /// Stop when the summary is printed, instead of staying up
    #[arg(long)]
    exit: bool,
}

impl Demo {
    /// Runs the demo.
    pub async fn run(&self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let _ = self.exit;
        Err("not there yet".into())
    }
}
