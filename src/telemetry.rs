//! Logs: what is written, and how (design.md 7, settings `log` and `log_format`).

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::settings::LogFormat;

/// Starts logging to standard error; a second start in one process changes nothing. Fails if `log` cannot be read.
pub fn start(log: &str, format: LogFormat) -> Result<(), String> {
    let filter: Targets = log
        .parse()
        .map_err(|error| format!("log {log:?}: {error}; it must be a level such as info, or a list such as info,feedsme::dispatch=debug"))?;
    let layer = match format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(())
}
