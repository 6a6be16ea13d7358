//! What is seen while the demo works: a bar on a terminal, else a line when a step is done. All of it goes to standard
//! error, so that standard output holds the summary and nothing else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One step of the demo.
pub struct Step {
    bar: Option<ProgressBar>,
    title: &'static str,
    started: Instant,
}

impl Step {
    /// Begins a step of `length` parts.
    pub fn begin(title: &'static str, length: usize, bars: bool) -> Self {
        let bar = bars.then(|| {
            let style =
                ProgressStyle::with_template("{prefix:<11} {bar:30} {pos:>5}/{len} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
                .with_style(style)
                .with_prefix(title);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            title,
            started: Instant::now(),
        }
    }

    /// So many more parts are done.
    pub fn inc(&self, parts: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(u64::try_from(parts).unwrap_or(0));
        }
    }

    /// What is going on now; only seen beside a bar.
    pub fn now(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text());
        }
    }

    /// A part worth a line where there is no bar.
    pub fn line(&self, text: impl FnOnce() -> String) {
        if self.bar.is_none() {
            eprintln!("{:<11} {}", self.title, text());
        }
    }

    /// Ends the step; how long it took.
    pub fn end(self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Step {
    /// The bar goes away, also when the step is given up.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
