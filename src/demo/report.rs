//! The summary for people: plain and aligned, coloured on a terminal alone.

use std::fmt::{Display, Write as _};
use std::io::IsTerminal as _;
use std::time::Duration;

use super::facts::{Facts, Rebuilt, Source};
use super::history::History;
use super::play::{Imported, Post, Promoted};
use crate::model::package::Kind;
use crate::query::line::LineView;

/// How wide the summary may be.
const WIDTH: usize = 100;

/// How many release lines are shown.
const LINES: usize = 5;

/// How wide labels and numbers are.
const LABEL: usize = 38;
const COUNT: usize = 8;

/// Whether to colour.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Colours if standard output is a terminal that has them, unless `NO_COLOR` says otherwise (no-color.org).
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(std::io::stdout().is_terminal() && !refused && !dumb)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        let text = text.to_string();
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text
        }
    }

    /// A heading.
    pub fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// What is there for those who look closer.
    pub fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// What one may copy.
    pub fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }
}

/// What the summary is made from.
pub struct Told<'a> {
    /// The service's address.
    pub url: &'a str,
    /// What was played.
    pub history: &'a History,
    /// The import.
    pub imported: &'a Imported,
    /// How long the publishes took.
    pub published: Duration,
    /// The promotion, if a release could be promoted.
    pub promoted: Option<&'a Promoted>,
    /// What the store says.
    pub facts: &'a Facts,
}

/// The summary.
pub fn summary(told: &Told<'_>, paint: Paint) -> String {
    let mut text = Text {
        out: String::new(),
        paint,
    };
    let facts = told.facts;
    let (first, last) = told.history.releases();
    let what = format!(
        "{} publishes of Babel, {first} to {last}, at {}",
        number(told.history.replayed.len()),
        told.url
    );
    let _ = writeln!(text.out, "\n{}", paint.bold(what));

    text.total(
        "known before",
        told.imported.versions,
        &format!(
            "versions of {} packages, imported",
            number(told.imported.packages)
        ),
    );
    changes(&mut text, facts);
    rebuilds(&mut text, facts);
    skips(&mut text, facts);

    let title = "biggest release lines";
    text.heading(title, "what goes along when a version is promoted");
    let lines = facts
        .lines
        .iter()
        .filter(|line| !line.dependents.is_empty());
    for line in lines.take(LINES) {
        text.line(line);
    }
    let posts = told.promoted.map_or(&[][..], |one| &one.posts);
    if let Some(Promoted { name, version, .. }) = told.promoted {
        text.heading("promotion", &format!("of {name}@{version}"));
        for post in posts {
            text.promotion(post, &facts.wave(&post.id));
        }
    }
    let promoting: Duration = posts.iter().map(|post| post.took).sum();
    let imported = told.imported.took;
    let note = format!(
        "import {}, publishes {}, promotion {}",
        seconds(imported),
        seconds(told.published),
        seconds(promoting)
    );
    let total = imported + told.published + promoting;
    text.heading("time", "");
    text.row("all of it", &seconds(total), &note);
    text.out
}

fn changes(text: &mut Text, facts: &Facts) {
    text.total(
        "changes accepted",
        facts.changes.len(),
        "each on disk before it was answered",
    );
    for (source, label, note) in [
        (Source::ByHand, "published by hand", ""),
        (
            Source::Notice,
            "notices",
            "of new versions that the rebuilds made",
        ),
        (Source::Promotion, "promotions", ""),
        (
            Source::PromotionNotice,
            "notices",
            "of builds that the promotions asked for",
        ),
    ] {
        text.count(label, facts.from(source), note);
    }
}

fn rebuilds(text: &mut Text, facts: &Facts) {
    let attempts = facts.attempts();
    let more = facts
        .rebuilds
        .iter()
        .filter(|one| one.progress.attempts.len() > 1)
        .count();
    let note = if more == 0 {
        format!("in {} attempts", number(attempts))
    } else {
        format!(
            "in {} attempts, {} in more than one",
            number(attempts),
            number(more)
        )
    };
    text.total("rebuilds decided", facts.rebuilds.len(), &note);
    for (kind, note) in [
        (Kind::Publish, "new versions"),
        (Kind::Promotion, "promoted versions"),
    ] {
        for (state, count) in facts.standing(kind) {
            text.count(state, count, note);
        }
    }
}

fn skips(text: &mut Text, facts: &Facts) {
    let count = facts.skips.iter().map(|one| one.count).sum();
    text.total(
        "dependents skipped",
        count,
        "each with its reason, for example:",
    );
    for skip in &facts.skips {
        text.count(&skip.reason.replace('_', " "), skip.count, &skip.example);
    }
}

/// The summary so far.
struct Text {
    out: String,
    paint: Paint,
}

impl Text {
    fn heading(&mut self, what: &str, note: &str) {
        let what = self.paint.bold(what);
        let note = self.paint.dim(note);
        let _ = writeln!(self.out, "\n{}", format!("{what}  {note}").trim_end());
    }

    /// A number that the lines below add up to.
    fn total(&mut self, what: &str, count: usize, note: &str) {
        let what = self.paint.bold(format!("{what:<LABEL$}"));
        let count = self.paint.bold(format!("{:>COUNT$}", number(count)));
        let _ = writeln!(self.out, "\n{what}{count}  {}", self.paint.dim(note));
    }

    /// A part of a total. What is zero is not worth a line.
    fn count(&mut self, what: &str, count: usize, note: &str) {
        if count > 0 {
            self.row(what, &number(count), note);
        }
    }

    /// Label, something short, and words that may take several lines.
    fn row(&mut self, what: &str, short: &str, note: &str) {
        let what = format!("  {what}");
        let start = LABEL + COUNT + 2;
        let mut lines = wrap(note, WIDTH - start).into_iter();
        let first = self.paint.dim(lines.next().unwrap_or_default());
        let row = format!("{what:<LABEL$}{short:>COUNT$}  {first}");
        let _ = writeln!(self.out, "{}", row.trim_end());
        for line in lines {
            let _ = writeln!(self.out, "{:start$}{}", "", self.paint.dim(line));
        }
    }

    fn line(&mut self, line: &LineView) {
        let who = line.dependents.iter();
        let who = who.map(|(name, version)| format!("{name}@{version}"));
        let note = some(who.collect(), 3);
        let label = format!("{}@{}", line.pkg, line.version);
        self.row(&label, &number(line.dependents.len()), &note);
    }

    /// What a promotion sent: the versions that it names itself, then what those brought along.
    fn promotion(&mut self, post: &Post, sent: &[&Rebuilt]) {
        let label = format!("to {}", post.env);
        let who = sent.iter().filter_map(|one| {
            let version = one.decision.version.as_ref()?;
            Some(format!("{}@{version}", one.decision.dependent))
        });
        let note = format!("in {}: {}", seconds(post.took), some(who.collect(), 4));
        self.row(&label, &number(sent.len()), &note);
    }
}

/// The first few of a list, and how many more there are.
fn some(list: Vec<String>, few: usize) -> String {
    let more = list.len().saturating_sub(few);
    let shown = list.into_iter().take(few).collect::<Vec<_>>().join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {} more", number(more)),
    }
}

/// Breaks a text at spaces into lines of at most `width` characters, where its words allow.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A number with its thousands set apart.
fn number(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_in_threes() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(number(count), text);
        }
    }

    #[test]
    fn long_texts_are_broken_at_spaces_and_long_words_are_kept() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(
            wrap("a longer-than-that b", 4),
            ["a", "longer-than-that", "b"]
        );
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn a_list_says_how_much_it_leaves_out() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect();
        assert_eq!(some(list("a b"), 2), "a, b");
        assert_eq!(some(list("a b c d"), 2), "a, b and 2 more");
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        assert_eq!(Paint(false).bold("x"), "x");
        assert_eq!(Paint(true).bold("x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
