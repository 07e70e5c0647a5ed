//! The example as a process of its own, to be killed.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pg_test::{Database, progress};

use super::http::Shop;

/// Ends its program with kill -9 when its own standard input is closed: by `kill`, or because the tests are gone.
const KEEPER: &str = r#""$@" </dev/null & program=$!; read -r _; kill -9 "$program"; wait "$program""#;

pub struct Service {
    python: PathBuf,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

impl Service {
    pub fn start(db: &Database, python: &Path, processor: u16, lease: &str) -> Service {
        // Free a moment ago; nothing else listens on a port that it did not choose.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let (host, server) = (db.cluster.socket_dir().display().to_string(), db.cluster.port());
        let mut service = Service {
            python: python.to_owned(),
            environment: vec![
                ("DATABASE_URL", format!("host={host} port={server} user=app dbname={}", db.name)),
                ("PROCESSOR_URL", format!("http://127.0.0.1:{processor}")),
                ("LEASE", lease.into()),
                ("PORT", port.to_string()),
                ("no_proxy", "*".into()),
            ],
            log: db.cluster.dir().join(format!("{}.example.log", db.name)),
            port,
            keeper: None,
        };
        service.restart();
        service
    }

    pub fn shop(&self, tenant: &str) -> Shop {
        Shop { port: self.port, tenant: tenant.to_owned() }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
        assert!(TcpStream::connect(("127.0.0.1", self.port)).is_err(), "it is still there");
    }

    /// Starts it, and waits until it listens.
    pub fn restart(&mut self) {
        let example = pg_test::root().join("docs/examples/payments.py");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.python)
            .arg("-I")
            .arg(example)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let deadline = Instant::now() + Duration::from_secs(40);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the example does not listen:\n{}", progress::tail(&self.log, 30));
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("{}", progress::tail(&self.log, 30));
        }
    }
}
