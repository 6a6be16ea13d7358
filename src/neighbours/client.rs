//! What every request to a neighbour shares: credentials, TLS roots, timeouts, and the reading of replies that are
//! not the expected ones.
//!
//! Why two clients: one unpacks gzip, for packuments, where it saves most of the bytes. The other one never does: a
//! `.tgz` must arrive as it is, whatever `Content-Encoding` a file server gives it, and a build service's lines must
//! not wait in a decoder.
//!
//! Why no timeout of reqwest's but the one for connecting: `timeout` covers the whole of an upload that may take long,
//! and `read_timeout` counts while nobody reads because the other side of a stream is slow. What is meant is *nothing
//! moved*, and only the code that moves it knows.
//!
//! Only HTTP/1.1 is spoken (the `http2` feature is off) and no proxy is taken from the environment.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, RequestBuilder, Response, Url};
use thiserror::Error;

use super::endpoint::Endpoint;
use super::outcome::{Class, Failure, Neighbour, Outcome};

/// Below the five seconds after which Node closes an idle connection: a request written into a connection that is
/// being closed looks like a reset, and costs an attempt.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// How much of an unexpected reply is read for its message.
const BODY_LIMIT: usize = 16 << 10;

/// How long such a reply may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// Why settings of a neighbour cannot be used. The text names the setting.
#[derive(Debug, Error)]
pub enum Unusable {
    /// Not an `http` or `https` address.
    #[error("{0}.url: {1}")]
    Url(Neighbour, String),
    /// Credentials that contradict each other or cannot be sent.
    #[error("{0}: {1}")]
    Credentials(Neighbour, String),
    /// A file that cannot be read or holds something else.
    #[error("{neighbour}.{setting}: {path}: {reason}")]
    File {
        /// Whose setting.
        neighbour: Neighbour,
        /// `token_file` or `ca_file`.
        setting: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS roots of the system cannot be loaded.
    #[error("{0}: {1}")]
    Tls(Neighbour, String),
}

/// One neighbour, ready to be talked to. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) neighbour: Neighbour,
    pub(super) idle: Duration,
    pub(super) connect: Duration,
    /// Without credentials, query, fragment and trailing slash.
    base: Url,
    auth: Option<HeaderValue>,
    gunzipping: Client,
    plain: Client,
}

impl Remote {
    /// Reads the files the settings name and builds the clients. Redirects are followed for reading only: a streamed
    /// body cannot be sent twice.
    pub(super) fn new(neighbour: Neighbour, endpoint: &Endpoint) -> Result<Self, Unusable> {
        // Refused only when one is there already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let url = |reason: &str| Unusable::Url(neighbour, reason.to_owned());
        let mut base = Url::parse(endpoint.url.reveal().trim())
            .map_err(|error| url(&format!("{error}: {}", endpoint.url)))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(url("must begin with http:// or https:// and name a host"));
        }
        let auth = authorization(neighbour, endpoint, &base)?;
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);

        let authorities = authorities(neighbour, endpoint)?;
        let build = |gzip: bool| build(neighbour, endpoint, &base, &authorities, gzip);
        Ok(Self {
            neighbour,
            idle: endpoint.idle_timeout,
            connect: endpoint.connect_timeout,
            auth,
            gunzipping: build(true)?,
            plain: build(false)?,
            base,
        })
    }

    /// `path` (already encoded, without leading slash) below the configured address.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        let base = self.base.as_str().trim_end_matches('/');
        self.parse(&format!("{base}/{path}"))
    }

    /// An absolute `http` or `https` address that came from somewhere else.
    pub(super) fn parse(&self, address: &str) -> Result<Url, Failure> {
        match Url::parse(address) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
            _ => Err(Outcome::new(
                Class::Dead,
                self.neighbour,
                "an address cannot be made or is not http",
            )),
        }
    }

    /// Whether `url` is on the configured scheme, host and port: nobody else gets our credentials.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// The same path and query below the configured address. For addresses that name the public registry in place
    /// of the proxy that is configured.
    pub(super) fn rebased(&self, url: &Url) -> Result<Url, Failure> {
        let mut rebased = self.url(url.path().trim_start_matches('/'))?;
        rebased.set_query(url.query());
        Ok(rebased)
    }

    /// A request; credentials go along only if the address is the neighbour's own.
    pub(super) fn request(&self, method: Method, url: Url, unpack: bool) -> RequestBuilder {
        let auth = self.auth.clone().filter(|_| self.is_home(&url));
        let client = if unpack {
            &self.gunzipping
        } else {
            &self.plain
        };
        let request = client.request(method, url);
        match auth {
            Some(auth) => request.header(AUTHORIZATION, auth),
            None => request,
        }
    }

    /// Sends a request that has no body and waits for the head of the reply, no longer than connecting and one idle
    /// time may take together. Any status is fine.
    pub(super) async fn head_of(&self, request: RequestBuilder) -> Result<Response, Failure> {
        match tokio::time::timeout(self.connect + self.idle, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// The outcome of a reply outside 2xx (or one that is not expected), with the beginning of its body.
    pub(super) async fn refused(&self, mut response: Response) -> Outcome {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(piece)) = response.chunk().await {
                body.extend_from_slice(&piece[..piece.len().min(BODY_LIMIT - body.len())]);
                if body.len() == BODY_LIMIT {
                    break;
                }
            }
        };
        // What came in time is enough: the status decides.
        let _ = tokio::time::timeout(self.idle.min(BODY_TIME), read).await;
        Outcome::of_status(
            self.neighbour,
            status,
            &headers,
            &spoken(&String::from_utf8_lossy(&body)),
        )
    }

    /// The outcome of a request that failed without a reply. Without a connection nothing was sent: the lane pauses.
    pub(super) fn broken(&self, error: &reqwest::Error) -> Outcome {
        let reason = reason(error);
        if error.is_connect() {
            Outcome::new(
                Class::Pause { retry_after: None },
                self.neighbour,
                format!("no connection: {reason}"),
            )
        } else {
            Outcome::retry(self.neighbour, reason)
        }
    }

    /// The outcome of an idle time gone by.
    pub(super) fn silent(&self) -> Outcome {
        let message = format!("nothing moved for {:?}", self.idle);
        Outcome::retry(self.neighbour, message)
    }
}

/// The causes of an error without the address, which may bear a query with a signature in it.
fn reason(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !causes.iter().any(|known| known.contains(&text)) {
            causes.push(text);
        }
        cause = error.source();
    }
    if causes.is_empty() {
        "the request failed".to_owned()
    } else {
        causes.join(": ")
    }
}

/// The sentence in an error body: a JSON object's `message`, `error` or `reason`, or the text itself.
fn spoken(body: &str) -> String {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(body) else {
        return body.to_owned();
    };
    let texts: Vec<&str> = ["error", "message", "reason"]
        .iter()
        .filter_map(|key| object.get(*key)?.as_str())
        .collect();
    if texts.is_empty() {
        return body.to_owned();
    }
    texts.join(": ")
}

fn build(
    neighbour: Neighbour,
    endpoint: &Endpoint,
    base: &Url,
    authorities: &[Certificate],
    gzip: bool,
) -> Result<Client, Unusable> {
    let builder = || -> ClientBuilder {
        let redirects = match neighbour {
            Neighbour::Registry => Policy::limited(5),
            Neighbour::BuildService | Neighbour::Warehouse => Policy::none(),
        };
        Client::builder()
            .user_agent(concat!("feedsme/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(endpoint.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirects)
            .referer(false)
            .gzip(gzip)
            .no_proxy()
    };
    match builder().tls_certs_merge(authorities.to_vec()).build() {
        Ok(client) => Ok(client),
        // A slim image has no roots; plain HTTP needs none.
        Err(_) if base.scheme() == "http" && authorities.is_empty() => builder()
            .tls_certs_only([])
            .build()
            .map_err(|error| Unusable::Tls(neighbour, reason(&error))),
        Err(error) => Err(Unusable::Tls(neighbour, reason(&error))),
    }
}

fn authorities(neighbour: Neighbour, endpoint: &Endpoint) -> Result<Vec<Certificate>, Unusable> {
    let Some(path) = &endpoint.ca_file else {
        return Ok(Vec::new());
    };
    let unusable = |reason: String| Unusable::File {
        neighbour,
        setting: "ca_file",
        path: path.display().to_string(),
        reason,
    };
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(reason(&error)))?;
    if found.is_empty() {
        return Err(unusable("holds no PEM certificate".to_owned()));
    }
    Ok(found)
}

fn authorization(
    neighbour: Neighbour,
    endpoint: &Endpoint,
    url: &Url,
) -> Result<Option<HeaderValue>, Unusable> {
    let wrong = |reason: &str| Unusable::Credentials(neighbour, reason.to_owned());
    let given = [
        endpoint.token.is_some(),
        endpoint.token_file.is_some(),
        endpoint.user.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(wrong("only one of token, token_file and user can be set"));
    }
    let basic = |credentials: &[u8]| format!("Basic {}", STANDARD.encode(credentials));
    let text = if let Some(token) = &endpoint.token {
        format!("Bearer {}", token.reveal().trim())
    } else if let Some(path) = &endpoint.token_file {
        let token = fs::read_to_string(path).map_err(|error| Unusable::File {
            neighbour,
            setting: "token_file",
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if token.trim().is_empty() {
            return Err(Unusable::File {
                neighbour,
                setting: "token_file",
                path: path.display().to_string(),
                reason: "is empty".to_owned(),
            });
        }
        format!("Bearer {}", token.trim())
    } else if let Some(user) = &endpoint.user {
        if !user.reveal().contains(':') {
            return Err(wrong("user must be name:password"));
        }
        basic(user.reveal().as_bytes())
    } else if !url.username().is_empty() || url.password().is_some() {
        let mut credentials = percent_decoded(url.username());
        credentials.push(b':');
        credentials.extend(percent_decoded(url.password().unwrap_or_default()));
        basic(&credentials)
    } else {
        return Ok(None);
    };
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| wrong("the token holds characters that no header can carry"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    decoded
}

/// JavaScript's `encodeURIComponent`: `@s/c` becomes `%40s%2Fc`.
pub(super) fn encode_component(text: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Secret;
    use super::*;

    fn remote(endpoint: &Endpoint) -> Result<Remote, Unusable> {
        Remote::new(Neighbour::Registry, endpoint)
    }

    fn sent(endpoint: &Endpoint) -> Option<String> {
        let auth = remote(endpoint).unwrap().auth?;
        Some(auth.to_str().unwrap().to_owned())
    }

    #[test]
    fn addresses_keep_their_path() {
        for base in [
            "http://u:p@h:1/npm/",
            "http://h:1/npm",
            "http://h:1/npm//?x#y",
        ] {
            let remote = remote(&Endpoint::new(base)).unwrap();
            let url = remote.url("@s%2Fc").unwrap();
            assert_eq!(url.as_str(), "http://h:1/npm/@s%2Fc");
        }
        let remote = remote(&Endpoint::new("http://h")).unwrap();
        assert_eq!(
            remote.url("%40s%2Fc").unwrap().as_str(),
            "http://h/%40s%2Fc"
        );
    }

    #[test]
    fn credentials_in_order_of_weight() {
        let mut endpoint = Endpoint::new("http://me:p%40ss%C3%BC@h");
        let basic = format!("Basic {}", STANDARD.encode("me:p@ssü"));
        assert_eq!(sent(&endpoint), Some(basic));
        endpoint.user = Some(Secret::new("a:b"));
        assert_eq!(sent(&endpoint).as_deref(), Some("Basic YTpi"));
        endpoint.user = None;
        endpoint.token = Some(Secret::new(" t0k "));
        assert_eq!(sent(&endpoint).as_deref(), Some("Bearer t0k"));
        endpoint.user = Some(Secret::new("a:b"));
        assert!(remote(&endpoint).is_err(), "two at once");
        assert_eq!(sent(&Endpoint::new("http://h")), None);
    }

    #[test]
    fn the_token_can_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc\n").unwrap();
        let mut endpoint = Endpoint::new("http://h");
        endpoint.token_file = Some(file.path().to_owned());
        assert_eq!(sent(&endpoint).as_deref(), Some("Bearer abc"));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(remote(&endpoint).is_err(), "empty");
        endpoint.token_file = Some("/nowhere/at/all".into());
        let message = remote(&endpoint).unwrap_err().to_string();
        assert!(
            message.starts_with("registry.token_file: /nowhere/at/all: "),
            "{message}"
        );
    }

    #[test]
    fn wrong_settings_name_themselves() {
        for url in ["", "h", "ftp://h", "http://", "localhost:1337"] {
            let message = remote(&Endpoint::new(url)).unwrap_err().to_string();
            assert!(message.starts_with("registry.url: "), "{url}: {message}");
        }
        let mut endpoint = Endpoint::new("https://h");
        let file = tempfile::NamedTempFile::new().unwrap();
        endpoint.ca_file = Some(file.path().to_owned());
        let message = remote(&endpoint).unwrap_err().to_string();
        assert!(message.starts_with("registry.ca_file: "), "{message}");
    }

    #[test]
    fn only_home_gets_credentials() {
        let mut endpoint = Endpoint::new("http://h:80/npm");
        endpoint.token = Some(Secret::new("t"));
        let remote = remote(&endpoint).unwrap();
        let sends = |url: &str| {
            let request = remote.request(Method::GET, Url::parse(url).unwrap(), true);
            request
                .build()
                .unwrap()
                .headers()
                .contains_key(AUTHORIZATION)
        };
        assert!(sends("http://h/other"));
        for other in [
            "https://h/",
            "http://h:81/",
            "http://h.evil/",
            "http://x/npm",
        ] {
            assert!(!sends(other), "{other}");
        }
    }

    #[test]
    fn names_in_addresses() {
        assert_eq!(encode_component("@s/c"), "%40s%2Fc");
        assert_eq!(encode_component("a-b_c.d~!*'()"), "a-b_c.d~!*'()");
        assert_eq!(encode_component("ü"), "%C3%BC");
    }

    #[test]
    fn error_bodies() {
        assert_eq!(
            spoken(r#"{"error":"conflict","reason":"there"}"#),
            "conflict: there"
        );
        assert_eq!(spoken(r#"{"statusCode":1}"#), r#"{"statusCode":1}"#);
        assert_eq!(spoken("plain"), "plain");
    }
}
