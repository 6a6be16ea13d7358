//! Talking to a running service (design.md 7): where it is, what it answered, tables.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

/// Where the service is asked, and how its answer is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Ask {
    /// The service
    #[arg(
        long,
        value_name = "URL",
        env = "FEEDSME_SERVER",
        default_value = "http://127.0.0.1:1337"
    )]
    server: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no answer to show. Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answered.
    #[error("{0} does not answer: {1}")]
    Away(String, String),
    /// The service said no; its own words.
    #[error("{0}")]
    Refused(String),
    /// The answer is not what the service gives.
    #[error("{0} answered with something that is not JSON ({1}): is it feedsme?")]
    Strange(String, StatusCode),
    /// The address is none.
    #[error("--server {0:?} is not an address such as http://127.0.0.1:1337")]
    Address(String),
}

impl Ask {
    /// GET.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, AskError> {
        self.send(Method::GET, path, query, None).await
    }

    /// Any request; the parts of the path are encoded here.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Value, AskError> {
        let address = || AskError::Address(self.server.clone());
        let mut url = Url::parse(&self.server).map_err(|_| address())?;
        url.path_segments_mut()
            .map_err(|()| address())?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let away = |error: reqwest::Error| {
            let why = std::error::Error::source(&error).map_or_else(
                || error.to_string(),
                |source| {
                    let deepest = std::iter::successors(Some(source), |one| one.source()).last();
                    deepest.map_or_else(String::new, ToString::to_string)
                },
            );
            AskError::Away(self.server.clone(), why)
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(away)?;
        let mut request = client.request(method, url);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let answer: Option<Value> = response.json().await.ok();
        let Some(answer) = answer else {
            return Err(AskError::Strange(self.server.clone(), status));
        };
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer["message"].as_str().unwrap_or_default();
        // The status is for programs.
        let plain = said
            .split_once(' ')
            .filter(|(code, _)| *code == status.as_str());
        Err(AskError::Refused(
            plain.map_or(said, |(_, plain)| plain).to_owned(),
        ))
    }

    /// Prints JSON if that was asked for; says whether it was.
    pub fn shown_as_json(&self, answer: &Value) -> bool {
        if self.json {
            println!("{answer}");
        }
        self.json
    }
}

/// A text field of an answer.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The names in a list of texts, or of objects that have a `package`.
pub fn names(value: &Value) -> String {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |one: &Value| {
        let name = one.as_str().or(one["package"].as_str());
        name.unwrap_or_default().to_owned()
    };
    all.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Prints rows under a head, each column as wide as it must be; nothing if there are no rows.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    print!("{}", lines(head, rows));
}

fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    if rows.is_empty() {
        return out;
    }
    let head: Vec<String> = head.iter().map(|one| (*one).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = all().map(|row| row.get(column).map_or(0, |cell| cell.chars().count()));
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in all() {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(out, "{}", line.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "1.0.0".to_owned()],
            vec!["long-name".to_owned(), String::new()],
        ];
        assert_eq!(
            lines(&["package", "version"], &rows),
            "package    version\na          1.0.0\nlong-name\n"
        );
        assert_eq!(lines(&["package"], &[]), "");
    }
}
