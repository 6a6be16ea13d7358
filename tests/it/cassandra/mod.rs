//! What is promised of a real Cassandra alone: its schema, its queue, several replicas on it, and nodes that go away.
//!
//! `bin/test` starts the node that `FEEDSME_TEST_CASSANDRA` names; the tests of [`nodes`] bring up three of their own.

mod babel;
mod cluster;
mod login;
mod migrate;
mod nodes;
mod queue;
mod replicas;
mod waves;
