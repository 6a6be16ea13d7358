//! A client that costs little: the machine's two processors are for the service. Keeps its connection, sends what is
//! ready made, reads the status and skips the rest.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 16 * 1024],
        }
    }

    /// Posts JSON; how long it took until the answer, which must be a 200.
    pub async fn post(&mut self, path: &str, body: &str) -> Duration {
        let started = Instant::now();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.answer().await;
        started.elapsed()
    }

    /// What `/status` says.
    pub async fn status(&mut self) -> Value {
        let request = "GET /status HTTP/1.1\r\nhost: bench\r\n\r\n";
        self.stream.write_all(request.as_bytes()).await.unwrap();
        serde_json::from_slice(&self.answer().await).unwrap()
    }

    /// Waits until the service has nothing to do now or later.
    pub async fn idle(&mut self) {
        while self.status().await["idle"] != true {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn answer(&mut self) -> Vec<u8> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(read > 0, "the service closed the connection");
            filled += read;
            let there = &self.buffer[..filled];
            let Some(end) = there.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&there[..end]).unwrap().to_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |text| text.trim().parse().unwrap());
            if self.buffer.len() < end + 4 + length {
                self.buffer.resize(end + 4 + length, 0);
            }
            if filled < end + 4 + length {
                continue;
            }
            let body = self.buffer[end + 4..end + 4 + length].to_vec();
            assert!(
                head.starts_with("http/1.1 200"),
                "{head}\n{}",
                String::from_utf8_lossy(&body)
            );
            return body;
        }
    }
}

/// Deals these out to so many tasks, each of which does its share in its order; what they answer, in no order.
pub async fn dealt<I, T, F>(items: Vec<I>, tasks: usize, work: impl Fn(Vec<I>) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Vec<T>> + Send + 'static,
{
    let mut shares: Vec<Vec<I>> = (0..tasks).map(|_| Vec::new()).collect();
    for (at, item) in items.into_iter().enumerate() {
        shares[at % tasks].push(item);
    }
    shares.retain(|share| !share.is_empty());
    let tasks: Vec<_> = shares
        .into_iter()
        .map(|share| tokio::spawn(work(share)))
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

/// Posts each body once, from so many connections; how long each took, in no order.
pub async fn post_all(url: &str, connections: usize, bodies: Vec<String>) -> Vec<Duration> {
    dealt(bodies, connections, |share| {
        let url = url.to_owned();
        async move {
            let mut client = Client::connect(&url).await;
            let mut took = Vec::with_capacity(share.len());
            for body in share {
                took.push(client.post("/change", &body).await);
            }
            took
        }
    })
    .await
}
