//! A cluster of a test's own, brought up by `bin/cassandra`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A cluster of our own. It ends with this process, whatever happens.
pub struct Cluster {
    dir: TempDir,
    pub nodes: Vec<String>,
}

impl Cluster {
    /// Starts it with these options of `bin/cassandra start`.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let parent = std::process::id().to_string();
        let mut arguments = vec!["start", "--net", "auto", "--with-parent", &parent];
        arguments.extend(options);
        let said = run(&dir, &arguments);
        let nodes = said.trim().strip_prefix("cassandra://").unwrap();
        let nodes = nodes.split(',').map(str::to_owned).collect();
        Self { dir, nodes }
    }

    /// The certificate of a cluster that was started with `--tls`.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("cluster/tls/ca.pem")
    }

    /// `kill`, `pause`, `resume` or `restart` of a node, counted from 1.
    pub fn tell(&self, what: &str, node: usize) {
        run(&self.dir, &[what, &node.to_string()]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = command(&self.dir, &["stop"]).status();
    }
}

fn command(dir: &TempDir, arguments: &[&str]) -> Command {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bin/cassandra");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--dir")
        .arg(dir.path().join("cluster"));
    command.stdin(Stdio::null());
    command
}

fn run(dir: &TempDir, arguments: &[&str]) -> String {
    let output = command(dir, arguments).output().unwrap();
    assert!(
        output.status.success(),
        "bin/cassandra {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
