//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// So many in that time.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The figures of several runs of one thing.
#[derive(Clone, Debug, Default)]
pub struct Runs(pub Vec<f64>);

impl Runs {
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
            odd => sorted[odd / 2],
        }
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn text(&self) -> String {
        let (least, most) = (number(self.least()), number(self.most()));
        format!("{} ({least} to {most})", number(self.median()))
    }

    fn json(&self) -> Value {
        json!({"median": self.median(), "least": self.least(), "most": self.most(), "runs": self.0})
    }
}

/// Three significant digits, thousands apart.
fn number(figure: f64) -> String {
    if figure < 100.0 {
        let digits = if figure < 10.0 { 2 } else { 1 };
        return format!("{figure:.digits$}");
    }
    let whole = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a figure is held against.
#[derive(Clone, Debug)]
pub enum Target {
    /// At least this share of the floor's figure.
    Share(f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    #[allow(dead_code, reason = "the benches share this file")]
    AtLeast(f64),
    /// Shown only.
    None,
}

/// One work.
#[derive(Clone, Debug)]
pub struct Row {
    pub work: String,
    pub unit: &'static str,
    pub ours: Runs,
    pub floor: Option<Runs>,
    pub target: Target,
}

impl Row {
    /// Ours as a share of the floor.
    pub fn share(&self) -> Option<f64> {
        Some(self.ours.median() / self.floor.as_ref()?.median())
    }

    pub fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::None => None,
            Target::Share(least) => Some(self.share()? >= least),
            Target::AtMost(most) => Some(self.ours.median() <= most),
            Target::AtLeast(least) => Some(self.ours.median() >= least),
        }
    }

    fn target(&self) -> String {
        let target = match self.target {
            Target::None => return String::new(),
            Target::Share(least) | Target::AtLeast(least) => format!("≥ {least}"),
            Target::AtMost(most) => format!("≤ {most}"),
        };
        let verdict = if self.is_met() == Some(true) {
            "met"
        } else {
            "**missed**"
        };
        format!("{target}: {verdict}")
    }

    fn json(&self) -> Value {
        json!({
            "work": self.work, "unit": self.unit, "ours": self.ours.json(),
            "floor": self.floor.as_ref().map(Runs::json), "ratio": self.share(), "met": self.is_met(),
        })
    }
}

/// As Markdown; `judged`: whether the targets are shown.
pub fn markdown(rows: &[Row], judged: bool) -> String {
    let mut text = String::from(
        "| work | unit | ours, median (spread) | floor | ours / floor | target |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let floor = row.floor.as_ref().map(Runs::text).unwrap_or_default();
        let share = row.share().map(|share| format!("{share:.2}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {floor} | {} | {} |",
            row.work,
            row.unit,
            row.ours.text(),
            share.unwrap_or_default(),
            if judged { row.target() } else { String::new() }
        );
    }
    text
}

pub fn json(rows: &[Row]) -> Value {
    Value::Array(rows.iter().map(Row::json).collect())
}
