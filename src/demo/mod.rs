//! `feedsme demo`: the service at work on a real history, so that a newcomer sees within a minute what it is for.
//!
//! The service is the real one, started as `feedsme serve` starts it; only its neighbours are the stand-ins of
//! [`crate::sandbox`]. What is printed at the end is read from its store, through the same questions that its HTTP routes
//! ask. Everything lives in a temporary folder that is removed at the end, also after ctrl-c.
//!
//! ```text
//! history   what Babel published, inside the binary
//! stage     the service and its neighbours; when they have come to rest
//! play      import, publish, promote
//! progress  what is seen meanwhile: bars, or lines
//! facts     what happened, read from the store
//! report    the same for people
//! examples  what to try next
//! ```

mod examples;
mod facts;
mod history;
mod play;
mod progress;
mod report;
mod stage;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::app::told_to_stop;
use crate::telemetry;
use facts::Facts;
use history::History;
use play::Play;
use report::Paint;
use stage::Stage;

/// What every part answers: whatever goes wrong ends the demo, with its text.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Ended by a signal before there was a summary: 128 + SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

/// How long a stop may take before the rest is dropped: nothing of it is kept anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show it at work on Babel's real history.
#[derive(Clone, Debug, clap::Args)]
pub struct Demo {
    /// Stop when the summary is printed, instead of staying up
    #[arg(long)]
    exit: bool,
    /// How many publishes to replay, from Babel v7.0.0 on
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    publishes: u32,
    /// Port of the service on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Let every tenth request to the warehouse and the build service fail, to see retries
    #[arg(long)]
    fault: bool,
    /// Log what the service does, and show no bars
    #[arg(long, short)]
    verbose: bool,
}

impl Demo {
    /// Runs the demo. 0: the summary was printed, and the demo ended as asked or by a signal; 1: it failed; 130: a signal
    /// came before the summary.
    pub async fn run(&self) -> Result<ExitCode> {
        telemetry::start(self.log(), crate::settings::LogFormat::Text)?;
        let told = told_to_stop();
        tokio::pin!(told);
        // Polled once: from here on a signal is heard, and no temporary folder is left behind.
        tokio::select! {
            biased;
            told = &mut told => { told?; return Ok(INTERRUPTED.into()) }
            () = std::future::ready(()) => {}
        }
        let folder = tempfile::Builder::new().prefix("feedsme-demo-").tempdir()?;
        let mut stage = Stage::set(folder.path(), self.port, self.fault).await?;
        let mut done = false;
        let ended = tokio::select! {
            biased;
            told = &mut told => told.map_err(Into::into),
            result = self.perform(&mut stage, &mut done) => result,
        };
        if !(self.exit && done) && std::io::stderr().is_terminal() {
            eprintln!("\nstopping");
        }
        tokio::select! {
            () = stage.strike() => {}
            _ = told_to_stop() => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
        folder.close()?;
        Ok(match ended {
            Err(error) => {
                eprintln!("feedsme: {error}");
                ExitCode::FAILURE
            }
            Ok(()) if done => ExitCode::SUCCESS,
            Ok(()) => INTERRUPTED.into(),
        })
    }

    /// A fault is announced, so its warnings are no news.
    fn log(&self) -> &'static str {
        match (self.verbose, self.fault) {
            (true, _) => "info",
            (false, false) => "warn",
            (false, true) => "warn,feedsme::dispatch=error",
        }
    }

    /// Import, publish, promote, tell. `done` says that the summary is out.
    async fn perform(&self, stage: &mut Stage, done: &mut bool) -> Result<()> {
        let length = usize::try_from(self.publishes)?;
        let history = tokio::task::spawn_blocking(move || History::read(length)).await??;
        let bars = std::io::stderr().is_terminal() && !self.verbose;
        let mut play = Play::new(stage, bars)?;
        let imported = play.import(&history.before).await?;
        let published = play.publish(&history.replayed).await?;
        let promoted = play.promote(&history.replayed).await?;
        let facts = Facts::gather(&stage.running.core).await?;
        let paint = Paint::of_stdout();
        let told = report::Told {
            url: &stage.running.url(),
            history: &history,
            imported: &imported,
            published,
            promoted: promoted.as_ref(),
            facts: &facts,
        };
        say(&report::summary(&told, paint));
        *done = true;
        if self.exit {
            return Ok(());
        }
        let examples = examples::find(&stage.running.core, &history, promoted.as_ref(), &facts);
        say(&examples::text(
            &stage.running.url(),
            &examples.await?,
            paint,
        ));
        Err(stage.running.failed().await.into())
    }
}

/// Prints; a reader that went away is no reason to die with a message.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
