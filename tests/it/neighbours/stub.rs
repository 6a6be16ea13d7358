//! A neighbour of a few lines: takes one request per connection, notes it, and answers as the test says, down to the
//! byte. It speaks raw TCP because the tests are about replies that no decent server would give.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came in.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body came to its proper end.
    pub complete: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        assert!(self.complete, "the body was cut");
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One step of an answer.
#[derive(Debug, Clone)]
pub enum Step {
    /// Read the request's body. Without this step it is never read.
    Read,
    /// Read so many bytes of it, at least.
    ReadSome(usize),
    Write(Vec<u8>),
    Wait(Duration),
    /// Keep the connection open and do nothing more.
    Hang,
    /// Close it with a reset.
    Reset,
}

pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// Answers every request with what `answer` says about its head. Afterwards the connection is closed.
    pub async fn start(answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move { serve(stream, &*answer, &log).await });
            }
        });
        Self { address, seen }
    }

    /// The same answer to everything.
    pub async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone()).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request that came.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

async fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Seen) -> Vec<Step> + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) {
    let mut stream = BufReader::new(stream);
    let Some(mut seen) = head(&mut stream).await else {
        return;
    };
    let index = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    for step in answer(&seen) {
        match step {
            Step::Read => {
                seen.complete = body(&mut stream, &mut seen).await.is_some();
                let mut log = log.lock().unwrap();
                log[index].complete = seen.complete;
                log[index].body = std::mem::take(&mut seen.body);
            }
            Step::ReadSome(wanted) => {
                let mut some = vec![0; wanted];
                if stream.read_exact(&mut some).await.is_err() {
                    return;
                }
            }
            Step::Write(bytes) => {
                if stream.get_mut().write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Hang => std::future::pending().await,
            Step::Reset => {
                stream.get_ref().set_zero_linger().unwrap();
                return;
            }
        }
    }
    let _ = stream.get_mut().shutdown().await;
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    use tokio::io::AsyncBufReadExt as _;

    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}

async fn head(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let first = line(stream).await?;
    let mut words = first.split(' ');
    let mut seen = Seen {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        ..Seen::default()
    };
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            return Some(seen);
        }
        let (key, value) = line.split_once(':')?;
        seen.headers
            .push((key.to_lowercase(), value.trim().to_owned()));
    }
}

/// Reads the body into `seen`; `None` if the connection ended before it did.
async fn body(stream: &mut BufReader<TcpStream>, seen: &mut Seen) -> Option<()> {
    if let Some(length) = seen.header("content-length") {
        let mut left: usize = length.parse().unwrap();
        let mut piece = vec![0; 65_536];
        while left > 0 {
            let wanted = left.min(piece.len());
            let read = stream.read(&mut piece[..wanted]).await.ok()?;
            if read == 0 {
                return None;
            }
            seen.body.extend_from_slice(&piece[..read]);
            left -= read;
        }
        return Some(());
    }
    seen.header("transfer-encoding")?;
    loop {
        let size = usize::from_str_radix(&line(stream).await?, 16).ok()?;
        let start = seen.body.len();
        seen.body.resize(start + size, 0);
        stream.read_exact(&mut seen.body[start..]).await.ok()?;
        line(stream).await?;
        if size == 0 {
            return Some(());
        }
    }
}

/// A whole reply with `Content-Length`.
pub fn reply(status: u16, headers: &[&str], body: &[u8]) -> Step {
    let head = head_of(status, headers);
    let length = format!("content-length: {}\r\n\r\n", body.len());
    Step::Write([head.as_bytes(), length.as_bytes(), body].concat())
}

/// The head of a chunked reply, to be followed by [`chunk`]s.
pub fn chunked(status: u16, headers: &[&str]) -> Step {
    let text = head_of(status, headers) + "transfer-encoding: chunked\r\n\r\n";
    Step::Write(text.into_bytes())
}

/// A chunk of a chunked reply. An empty one ends it.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let size = format!("{:x}\r\n", bytes.len());
    Step::Write([size.as_bytes(), bytes, b"\r\n"].concat())
}

/// The head of a reply that ends with the connection.
pub fn until_close(status: u16) -> Step {
    Step::Write((head_of(status, &[]) + "connection: close\r\n\r\n").into_bytes())
}

fn head_of(status: u16, headers: &[&str]) -> String {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    for header in headers {
        text += header;
        text += "\r\n";
    }
    text
}
