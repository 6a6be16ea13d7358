//! The real program as a process of its own, which can be killed and started again on the same port and the same store.

#![allow(dead_code, reason = "tests and benches use different parts")]

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use feedsme::sandbox::Sandbox;

/// How long the program may take to answer after its start, on a machine that is busy.
const START: Duration = Duration::from_secs(30);

/// Where a program runs: its store, its log, its port.
pub struct Place {
    /// The SQLite file.
    pub store: PathBuf,
    /// The setting `store`: that file, unless somebody says otherwise.
    pub store_setting: String,
    /// What every run wrote, one after the other.
    pub log: PathBuf,
    /// Whether there is a warehouse. Default: yes.
    pub warehouse: bool,
    /// The base address, without a slash at the end.
    pub url: String,
    address: SocketAddr,
    /// Bound, not listening: keeps the port ours while nobody runs.
    _port: tokio::net::TcpSocket,
}

impl Place {
    /// A place in a directory. Must be called in a tokio runtime.
    pub fn new(dir: &Path) -> Self {
        let port = tokio::net::TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = port.local_addr().unwrap();
        Self {
            store: dir.join("feedsme.sqlite3"),
            store_setting: format!("sqlite:{}", dir.join("feedsme.sqlite3").display()),
            log: dir.join("feedsme.log"),
            warehouse: true,
            url: format!("http://{address}"),
            address,
            _port: port,
        }
    }

    /// Starts `feedsme serve` with the sandbox as its neighbours. Further settings are flags, such as
    /// `("registry-concurrency", "4")`. Nothing of the environment is passed on.
    pub fn start(&self, sandbox: &Sandbox, flags: &[(&str, &str)]) -> Program {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_feedsme"));
        command
            .env_clear()
            .current_dir(self.store.parent().unwrap())
            .arg("serve");
        let own = [
            ("listen", self.address.to_string()),
            ("store", self.store_setting.clone()),
            ("build-service-url", sandbox.build_service_url()),
            ("registry-url", sandbox.registry_url()),
            ("log", "warn".to_owned()),
        ];
        for (flag, value) in own {
            command.arg(format!("--{flag}={value}"));
        }
        if self.warehouse {
            command.arg(format!("--warehouse-url={}", sandbox.warehouse_url()));
        }
        for (flag, value) in flags {
            command.arg(format!("--{flag}={value}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Program {
            child,
            log: self.log.clone(),
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn run(&self, sandbox: &Sandbox, flags: &[(&str, &str)]) -> Program {
        let mut program = self.start(sandbox, flags);
        program.ready(&self.url).await;
        program
    }

    /// The end of the log, for messages.
    pub fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self, url: &str) {
        let client = client();
        let give_up = Instant::now() + START;
        loop {
            if let Ok(response) = client.get(format!("{url}/readyz")).send().await
                && response.status() == 200
            {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < give_up,
                "it does not come up ({ended:?}):\n{}",
                last_words(&self.log)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP: it stands still, with its connections and its clock's view of the past.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let told = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it ended.
    pub async fn terminate(self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        self.ended(within).await
    }

    /// Waits until it ends by itself; how.
    pub async fn ended(mut self, within: Duration) -> ExitStatus {
        let give_up = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < give_up,
                "it does not end:\n{}",
                last_words(&self.log)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client that does not wait for ever and uses no proxy. No idle connections: the other side is killed often.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}
