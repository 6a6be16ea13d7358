//! The HTTP interface: a real server on a real store, asked by a real client (design.md 6, contract.md 1 and 6).

mod bodies;
mod changes;
mod errors;
mod health;
mod impact;
mod questions;
mod waiting;
mod waves;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::Service;

/// Sends these very bytes and returns what comes back until the server closes, or falls silent for two seconds.
async fn raw(service: &Service, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", service.port))
        .await
        .unwrap();
    stream.write_all(bytes).await.unwrap();
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = tokio::time::timeout(std::time::Duration::from_secs(2), stream.read(&mut piece));
        match read.await {
            Ok(Ok(count)) if count > 0 => answer.extend_from_slice(&piece[..count]),
            _ => return String::from_utf8(answer).unwrap(),
        }
    }
}
