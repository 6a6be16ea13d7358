//! Reading from the npm registry: packuments and tarballs (contract.md 2.4, design.md 3 rule 10).
//!
//! Why the tarball's address is not simply made up: registries keep tarballs where they like and say so in
//! `dist.tarball`; proxies hand on the address of the registry behind them, which may be out of reach from here. So
//! the stated address comes first, the usual ones after it, and credentials go to the configured host alone.

use std::fmt;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, Url};
use tokio::sync::mpsc;

use super::client::{Remote, Unusable, encode_component};
use super::endpoint::Endpoint;
use super::outcome::{Class, Failure, Neighbour, Outcome};
use super::packument::{self, Packument, Pieces};

/// Largest packument read, in bytes after unpacking. The largest on npm are below 100 MiB in their full form.
const PACKUMENT_LIMIT: u64 = 256 << 20;

/// Largest list of names read.
const JSON_LIMIT: usize = 64 << 20;

/// Its address stands in many packuments that come from somewhere else; npm replaces it as well.
const PUBLIC: &str = "registry.npmjs.org";

/// The npm registry.
#[derive(Debug, Clone)]
pub struct Registry(Remote);

/// A tarball on its way. Nothing of it is kept: who drops it ends the request.
pub struct Tarball {
    /// The bytes as the registry stores them, never unpacked. After an `Err` nothing follows.
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>,
    /// How many bytes will come, where the registry says so.
    pub length: Option<u64>,
    /// The SHA-512 they must have; checked before an upload's last byte.
    pub sha512: Option<[u8; 64]>,
}

impl Tarball {
    /// Demands that the bytes have the SHA-512 of this `dist.integrity`, if it holds a well-formed one.
    #[must_use]
    pub fn with_integrity(mut self, integrity: Option<&str>) -> Self {
        self.sha512 = integrity.and_then(sha512_of);
        self
    }
}

impl fmt::Debug for Tarball {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tarball")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// From its settings; reads the files they name.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Unusable> {
        Remote::new(Neighbour::Registry, endpoint).map(Self)
    }

    /// The tags of a package, and the `dist` of those of the `wanted` versions that it has. `None` if the registry
    /// does not know the package (404). The abbreviated form is asked for.
    pub async fn packument(
        &self,
        name: &str,
        wanted: &[&str],
    ) -> Result<Option<Packument>, Failure> {
        let url = self.0.url(&name.replacen('/', "%2F", 1))?;
        let request = self.0.request(Method::GET, url, true).header(
            ACCEPT,
            "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8",
        );
        let response = self.0.head_of(request).await?;
        match response.status().as_u16() {
            200 => self.read_packument(name, wanted, response).await.map(Some),
            404 => Ok(None),
            _ => Err(self.0.refused(response).await),
        }
    }

    /// The whole packument in its full form, read by `read` on a blocking thread while it comes. `None` if the registry
    /// does not know the package (404).
    pub(crate) async fn whole_packument<T: Send + 'static>(
        &self,
        name: &str,
        read: impl FnOnce(Pieces) -> serde_json::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Failure> {
        let url = self.0.url(&name.replacen('/', "%2F", 1))?;
        let request = self.0.request(Method::GET, url, true);
        let response = self
            .0
            .head_of(request.header(ACCEPT, "application/json"))
            .await?;
        match response.status().as_u16() {
            200 => self
                .read_while_it_comes(name, response, |pieces| read(Pieces::new(pieces)))
                .await
                .map(Some),
            404 => Ok(None),
            _ => Err(self.0.refused(response).await),
        }
    }

    /// A small JSON document at a path below the registry's address. `None` if there is none (404).
    pub(crate) async fn json(&self, path: &str) -> Result<Option<serde_json::Value>, Failure> {
        let request = self.0.request(Method::GET, self.0.url(path)?, true);
        let mut response = self
            .0
            .head_of(request.header(ACCEPT, "application/json"))
            .await?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.0.refused(response).await),
        }
        let mut body = Vec::new();
        while let Some(piece) = self.next(&mut response).await? {
            body.extend_from_slice(&piece);
            if body.len() > JSON_LIMIT {
                return Err(self.nonsense(format!("what is at {path} is above 64 MiB")));
            }
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| self.nonsense(format!("{path}: {error}")))
    }

    async fn read_packument(
        &self,
        name: &str,
        wanted: &[&str],
        response: Response,
    ) -> Result<Packument, Failure> {
        let wanted: Vec<String> = wanted.iter().map(|&version| version.to_owned()).collect();
        let read = move |pieces| packument::read(pieces, &wanted);
        self.read_while_it_comes(name, response, read).await
    }

    async fn read_while_it_comes<T: Send + 'static>(
        &self,
        name: &str,
        mut response: Response,
        read: impl FnOnce(mpsc::Receiver<Bytes>) -> serde_json::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (pieces, receiver) = mpsc::channel(4);
        let parsing = tokio::task::spawn_blocking(move || read(receiver));
        let mut length = 0;
        while let Some(piece) = self.next(&mut response).await? {
            length += piece.len() as u64;
            if length > PACKUMENT_LIMIT {
                return Err(self.nonsense(format!("the packument of {name} is above 256 MiB")));
            }
            // The parser has gone: it says why below.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let parsed = parsing
            .await
            .map_err(|error| self.nonsense(format!("reading a packument: {error}")))?;
        parsed.map_err(|error| self.nonsense(format!("the packument of {name}: {error}")))
    }

    /// The tarball of a version, from `dist.tarball` if the caller has it, else (or if there is nothing) from
    /// `/@s/c/-/c-1.0.0.tgz`, else from `/@s/c/-/@s/c-1.0.0.tgz` as the Node software asks for it.
    /// [`Class::MissingTarball`] if it is in none of these places.
    pub async fn tarball(
        &self,
        name: &str,
        version: &str,
        dist_tarball: Option<&str>,
    ) -> Result<Tarball, Failure> {
        let mut failure: Option<Failure> = None;
        for url in self.places(name, version, dist_tarball)? {
            let away = !self.0.is_home(&url);
            match self.tarball_at(url).await {
                Ok(tarball) => return Ok(tarball),
                // A host that we were not told to use may be down or closed without the registry being so.
                Err(found) if away || found.class == Class::MissingTarball => {
                    if failure
                        .as_ref()
                        .is_none_or(|earlier| earlier.class == Class::MissingTarball)
                    {
                        failure = Some(found);
                    }
                }
                Err(found) => return Err(found),
            }
        }
        Err(failure.unwrap_or_else(|| self.nonsense(format!("no address for {name}@{version}"))))
    }

    fn places(
        &self,
        name: &str,
        version: &str,
        dist_tarball: Option<&str>,
    ) -> Result<Vec<Url>, Failure> {
        let mut places = Vec::with_capacity(3);
        // One that cannot be read is as good as none.
        if let Some(url) = dist_tarball.and_then(|address| self.0.parse(address).ok()) {
            if url.host_str() == Some(PUBLIC) && !self.0.is_home(&url) {
                places.push(self.0.rebased(&url)?);
            } else {
                places.push(url);
            }
        }
        let version = encode_component(version);
        let bare = name.rsplit('/').next().unwrap_or(name);
        for file in [bare, name] {
            let url = self.0.url(&format!("{name}/-/{file}-{version}.tgz"))?;
            if !places.contains(&url) {
                places.push(url);
            }
        }
        Ok(places)
    }

    async fn tarball_at(&self, url: Url) -> Result<Tarball, Failure> {
        let response = self
            .0
            .head_of(self.0.request(Method::GET, url, false))
            .await?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => {
                let status = response.status().as_u16();
                let message = format!("has no tarball at {}", response.url().path());
                return Err(
                    Outcome::new(Class::MissingTarball, Neighbour::Registry, message)
                        .with_status(status),
                );
            }
            _ => return Err(self.0.refused(response).await),
        }
        let length = response.content_length();
        if length == Some(0) {
            return Err(self.nonsense("sent an empty tarball"));
        }
        let registry = self.clone();
        let pieces = stream::try_unfold(response, move |mut response| {
            let registry = registry.clone();
            async move {
                let piece = registry.next(&mut response).await?;
                Ok(piece.map(|piece| (piece, response)))
            }
        });
        Ok(Tarball {
            stream: Box::pin(pieces),
            length,
            sha512: None,
        })
    }

    /// The next piece of a body. The idle time runs only while somebody waits for it.
    async fn next(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        match tokio::time::timeout(self.0.idle, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.0.broken(&error).with_status(200)),
            Err(_) => Err(self.0.silent().with_status(200)),
        }
    }

    fn nonsense(&self, message: impl AsRef<str>) -> Failure {
        Outcome::retry(self.0.neighbour, message)
    }
}

/// The SHA-512 in a `dist.integrity` such as `sha512-…`, which may list several hashes.
fn sha512_of(integrity: &str) -> Option<[u8; 64]> {
    integrity.split_whitespace().find_map(|hash| {
        let text = hash.strip_prefix("sha512-")?.split('?').next()?;
        STANDARD.decode(text).ok()?.try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(base: &str, name: &str, dist: Option<&str>) -> Vec<String> {
        let registry = Registry::new(&Endpoint::new(base)).unwrap();
        let places = registry.places(name, "1.0.0", dist).unwrap();
        places.into_iter().map(Into::into).collect()
    }

    #[test]
    fn where_a_tarball_may_be() {
        assert_eq!(
            places("http://r/npm/", "c", None),
            ["http://r/npm/c/-/c-1.0.0.tgz"]
        );
        assert_eq!(
            places("http://r", "@s/c", None),
            [
                "http://r/@s/c/-/c-1.0.0.tgz",
                "http://r/@s/c/-/@s/c-1.0.0.tgz"
            ]
        );
        assert_eq!(
            places("http://r", "c", Some("http://r/c/-/c-1.0.0.tgz")),
            ["http://r/c/-/c-1.0.0.tgz"],
            "no place twice"
        );
        assert_eq!(
            places("http://r", "c", Some("https://cdn/x.tgz?sig=1"))[0],
            "https://cdn/x.tgz?sig=1"
        );
        let public = Some("https://registry.npmjs.org/c/-/c-1.0.0.tgz");
        assert_eq!(
            places("http://r/npm", "c", public),
            ["http://r/npm/c/-/c-1.0.0.tgz"]
        );
        assert_eq!(places("http://r", "c", Some("file:///etc/passwd")).len(), 1);
    }

    #[test]
    fn integrity() {
        let hash = STANDARD.encode([7; 64]);
        assert_eq!(
            sha512_of(&format!("sha1-abc sha512-{hash}?opt")),
            Some([7; 64])
        );
        for none in [
            "",
            "sha512-abc",
            "sha512-",
            "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        ] {
            assert_eq!(sha512_of(none), None, "{none}");
        }
    }
}
