//! A private authority in `ca_file`, and none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use feedsme::neighbours::{Class, Registry};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::endpoint;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/tls")
        .join(name)
}

/// A registry that knows no package, over TLS.
fn start() -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut request = [0; 1024];
            if stream.read(&mut request).is_ok() {
                let _ = stream.write_all(
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                );
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_it_is_named() {
    let url = format!("https://localhost:{}", start().port());

    let mut settings = endpoint(&url);
    settings.ca_file = Some(fixture("authority.pem"));
    let registry = Registry::new(&settings).unwrap();
    assert_eq!(registry.packument("root", &[]).await, Ok(None));

    // On a machine without any roots this is an error of the settings instead.
    if let Ok(stranger) = Registry::new(&endpoint(&url)) {
        let failure = stranger.packument("root", &[]).await.unwrap_err();
        assert_eq!(failure.class, Class::Pause { retry_after: None });
        assert!(!failure.may_have_reached);
        assert!(failure.message.contains("certificate"), "{failure:?}");
    }
}
