//! Connecting to the cluster: who we are, which data center is ours, and how long we wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::{Consistency, SerialConsistency};

use super::error::{bug, of_session};
use crate::ingest::Clock;
use crate::store::{Result, StoreError};

/// The longest that Cassandra itself works at a statement, with some room: a client that gives up earlier knows less
/// than the coordinator (H9).
pub(super) const PATIENCE: Duration = Duration::from_secs(12);

/// Where the cluster is and how to get in.
#[derive(Clone)]
pub struct Options {
    /// Contact points: `host` or `host:port`.
    pub hosts: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// The user, if the cluster asks for one.
    pub user: Option<String>,
    /// The password; never shown.
    pub password: Option<String>,
    /// Encrypt, trusting only the certificates in this PEM file.
    pub ca_file: Option<std::path::PathBuf>,
    /// The data center whose replicas answer. `None`: the cluster has one, or the statements go where they may.
    pub data_center: Option<String>,
    /// What tells the time to the queue's buckets.
    pub clock: Clock,
    /// How long things of the past are kept: changes, waves, attempts, finished work.
    pub retain: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("hosts", &self.hosts)
            .field("keyspace", &self.keyspace)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How statements of one kind are run.
pub(super) struct Profiles {
    /// Reads: repeated, also speculatively.
    pub read: ExecutionProfile,
    /// Plain writes: idempotent, repeated.
    pub write: ExecutionProfile,
    /// Conditional writes: once, and their outcome is found out by us (H9).
    pub decide: ExecutionProfile,
}

/// Connects; the keyspace is not used yet, because it may not exist.
pub(super) async fn connect(options: &Options) -> Result<(Session, Profiles)> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(data_center) = &options.data_center {
        policy = policy.prefer_datacenter(data_center.clone());
    }
    let balance = policy.build();
    let base = || {
        ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(PATIENCE))
            .load_balancing_policy(balance.clone())
    };
    let profiles = Profiles {
        read: base()
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
                max_retry_count: 1,
                retry_interval: Duration::from_millis(500),
            })))
            .build(),
        write: base()
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .build(),
        decide: base()
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .build(),
    };
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.hosts)
        .default_execution_profile_handle(profiles.read.clone().into_handle())
        .connection_timeout(Duration::from_secs(5))
        .keepalive_interval(Duration::from_secs(5))
        .keepalive_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // Nothing here looks at other tables than our own.
        .fetch_schema_metadata(true)
        .tls_context(options.ca_file.as_deref().map(tls).transpose()?);
    if let Some(user) = &options.user {
        builder = builder.user(user, options.password.as_deref().unwrap_or_default());
    }
    let session = tokio::time::timeout(Duration::from_secs(20), builder.build())
        .await
        .map_err(|_| {
            StoreError::new(
                crate::store::StoreErrorKind::Away,
                format!("cassandra: {} did not answer", options.hosts.join(", ")),
            )
        })?
        .map_err(|error| of_session(&error))?;
    let state = session.get_cluster_state();
    let known: std::collections::BTreeSet<&str> = state
        .get_nodes_info()
        .iter()
        .filter_map(|node| node.datacenter.as_deref())
        .collect();
    if options.data_center.is_none() && known.len() > 1 {
        // Conditional writes of two data centers know nothing of each other.
        let known: Vec<&str> = known.into_iter().collect();
        return Err(bug(format!(
            "the cluster has the data centers {}; set cassandra.data_center to the one of this replica",
            known.join(", ")
        )));
    }
    if let Some(named) = &options.data_center
        && !known.contains(named.as_str())
    {
        let known: Vec<&str> = known.into_iter().collect();
        return Err(bug(format!(
            "there is no data center {named:?} in the cluster; it has {}",
            known.join(", ")
        )));
    }
    Ok((session, profiles))
}

fn tls(ca_file: &std::path::Path) -> Result<TlsContext> {
    let wrong = |error: String| bug(format!("the CA file {}: {error}", ca_file.display()));
    // Whichever comes first installs it; all are the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca_file).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it has no certificate in it".into()));
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsContext::from(Arc::new(config)))
}
