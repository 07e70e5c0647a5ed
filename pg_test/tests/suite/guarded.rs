//! A server never outlives its runner, and comes back when it is killed.
//!
//! The runner that is killed here is this very program, started again as a victim.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::pooler::Pooler;
use pg_test::{Cluster, progress};

use crate::harness::Nowhere;

const ROLE: &str = "BULKHEAD_VICTIM";

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_killed_server_recovers_what_was_committed,
        a_server_restarts,
        nothing_is_left_of_a_runner_that_was_killed,
        nothing_is_left_of_a_runner_that_was_interrupted,
        nothing_is_left_of_a_runner_that_panicked,
        keep_leaves_the_server_running
    ]
}

/// What this process was started for, when it is not to run tests.
pub fn role_of_this_process() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A runner with a server and a pooler: says where, then waits for its end or brings it about.
pub fn play(role: &str) -> ExitCode {
    let cluster = Cluster::builder().start().unwrap();
    let pooler = Pooler::is_available(&cluster).then(|| Pooler::start(&cluster, 1).unwrap());
    println!("{}", cluster.dir().display());
    match role {
        "panics" => panic!("as planned"),
        "ends" => drop(pooler),
        _ => std::thread::sleep(Duration::from_secs(300)),
    }
    ExitCode::SUCCESS
}

struct Victim {
    child: Child,
    dir: PathBuf,
}

impl Victim {
    fn start(role: &str, keep: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).env_remove("KEEP");
        if keep {
            command.env("KEEP", "1");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let dir = PathBuf::from(line.trim());
        assert!(dir.is_absolute(), "the victim said {line:?}");
        Self { child, dir }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Processes whose program is below the directory.
fn processes(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|process| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe.starts_with(dir)))
        .map(|process| process.display().to_string())
        .collect()
}

fn assert_all_gone(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while dir.exists() || !processes(dir).is_empty() {
        assert!(Instant::now() < deadline, "left: {} and {:?}", dir.display(), processes(dir));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("/bin/sh").args(["-c", "kill \"$0\" \"$1\"", name, pid]).status();
    assert!(status.unwrap().success(), "kill {name} {pid}");
}

fn interrupts_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let interrupt = 1 << (2 - 1);
    u64::from_str_radix(mask.trim(), 16).unwrap() & interrupt != 0
}

async fn nothing_is_left_of_a_runner_that_was_killed(_: Nowhere) {
    let mut victim = Victim::start("waits", false);
    assert!(!processes(&victim.dir).is_empty());
    victim.child.kill().unwrap();
    assert_all_gone(&victim.dir);
}

async fn nothing_is_left_of_a_runner_that_was_interrupted(_: Nowhere) {
    let victim = Victim::start("waits", false);
    // A shell starts what it puts into the background deaf to Ctrl-C.
    let name = if interrupts_are_ignored() { "-TERM" } else { "-INT" };
    signal(name, &victim.child.id().to_string());
    assert_all_gone(&victim.dir);
}

async fn nothing_is_left_of_a_runner_that_panicked(_: Nowhere) {
    let mut victim = Victim::start("panics", false);
    assert!(!victim.child.wait().unwrap().success());
    // Nothing to wait for: the panic unwound through the cluster's own end.
    assert!(!victim.dir.exists());
    assert_eq!(processes(&victim.dir), [""; 0]);
}

async fn keep_leaves_the_server_running(_: Nowhere) {
    let mut victim = Victim::start("ends", true);
    assert!(victim.child.wait().unwrap().success());
    let pid_file = victim.dir.join("data/postmaster.pid");
    let pid = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_string();
    let running = processes(&victim.dir);
    signal("-QUIT", &pid);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !processes(&victim.dir).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_dir_all(&victim.dir).unwrap();
    assert!(running.contains(&format!("/proc/{pid}")), "{pid} among {running:?}");
}

async fn a_killed_server_recovers_what_was_committed(_: Nowhere) {
    let cluster = progress::stage("started a server to kill", || Cluster::builder().start()).unwrap();
    let db = cluster.database("kill").unwrap();
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await;
    owner.run("BEGIN; INSERT INTO kept VALUES (2)").await;
    cluster.kill().unwrap();
    assert!(owner.try_run("COMMIT").await.is_err());
    assert!(db.try_connect("owner").await.is_err());
    cluster.start().unwrap();
    let owner = db.connect("owner").await;
    assert_eq!(owner.column("SELECT n FROM kept").await, ["1"]);
    assert!(cluster.log().contains("database system was not properly shut down"));
}

async fn a_server_restarts(_: Nowhere) {
    let cluster = Cluster::builder().setting("work_mem", "5MB").start().unwrap();
    let db = cluster.database("restart").unwrap();
    let before = db.connect("app").await;
    assert_eq!(before.one("SHOW work_mem").await, "5MB");
    assert!(cluster.start().is_err(), "it runs already");
    cluster.restart().unwrap();
    assert!(before.try_run("SELECT 1").await.is_err());
    assert_eq!(db.connect("app").await.one("SHOW work_mem").await, "5MB");
    let dir = cluster.dir().to_path_buf();
    drop((db, cluster));
    assert!(!dir.exists());
}
