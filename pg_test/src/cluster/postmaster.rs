//! Starting, stopping and killing the server's first process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::workspace::Workspace;
use crate::progress;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Postmaster {
    child: Option<Child>,
}

impl Postmaster {
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn start(&mut self, workspace: &Workspace) -> Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            bail!("the server is already running");
        }
        // Left behind by a crash, it would look like a server that is ready.
        std::fs::remove_file(workspace.data.join("postmaster.pid")).ok();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&workspace.log)
            .with_context(|| format!("opening {}", workspace.log.display()))?;
        let child = workspace
            .command(&workspace.bin("postgres"))
            .arg("-D")
            .arg(&workspace.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting postgres")?;
        self.child = Some(child);
        self.wait_until_ready(workspace)
    }

    fn wait_until_ready(&mut self, workspace: &Workspace) -> Result<()> {
        let deadline = Instant::now() + START;
        let pid_file = workspace.data.join("postmaster.pid");
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("the server did not start ({status}):\n{}", progress::tail(&workspace.log, 30));
            }
            if says_ready(&pid_file) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("the server was not ready after {} s:\n{}", START.as_secs(), progress::tail(&workspace.log, 30))
    }

    /// Clients are disconnected, a checkpoint is written.
    pub fn stop_fast(&mut self) -> Result<()> {
        self.stop("-INT")
    }

    /// Everybody goes at once, and the next start recovers.
    pub fn stop_immediately(&mut self) -> Result<()> {
        self.stop("-QUIT")
    }

    fn stop(&mut self, name: &str) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        signal(name, child.id())?;
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        let pid = child.id();
        self.child = Some(child);
        bail!("the server (process {pid}) did not stop within {} s", STOP.as_secs())
    }

    /// As a crash: no process of the server survives, and none of them could clean up.
    pub fn kill(&mut self, workspace: &Workspace) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            bail!("the server is not running");
        };
        let memory = shared_memory(&workspace.data.join("postmaster.pid"))?;
        child.kill()?;
        child.wait()?;
        let server = workspace.bin("postgres");
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            let orphans = running(workspace, &server);
            // A process that is ending has no program any more, and holds its memory for a moment longer: the next server would not start.
            if orphans.is_empty() && !is_attached(&memory)? {
                return Ok(());
            }
            for pid in orphans {
                // It may have gone by itself meanwhile.
                signal("-KILL", pid).ok();
            }
            std::thread::sleep(POLL);
        }
        bail!("processes of the killed server are still there")
    }

    /// Lets the kernel forget a server that somebody else has stopped.
    pub fn forget(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        for _ in 0..100 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn says_ready(pid_file: &Path) -> bool {
    // The eighth line is the status, padded with blanks.
    std::fs::read_to_string(pid_file)
        .is_ok_and(|text| text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
}

/// The id of the block of shared memory by which a server knows that another one's processes are still there.
fn shared_memory(pid_file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(pid_file).with_context(|| format!("reading {}", pid_file.display()))?;
    // The seventh line: its key and its id.
    let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    Ok(id.with_context(|| format!("{} names no shared memory", pid_file.display()))?.to_owned())
}

fn is_attached(memory: &str) -> Result<bool> {
    let blocks = std::fs::read_to_string("/proc/sysvipc/shm").context("reading /proc/sysvipc/shm")?;
    // key shmid perms size cpid lpid nattch ...
    let block = blocks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|block| block.get(1) == Some(&memory));
    Ok(block.is_some_and(|block| block.get(6) != Some(&"0")))
}

fn running(workspace: &Workspace, program: &PathBuf) -> Vec<u32> {
    let is_server = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == *program);
    workspace.processes().into_iter().filter(is_server).collect()
}

pub(crate) fn signal(name: &str, pid: u32) -> Result<()> {
    // The shell's own: the program is not on every minimal system.
    let status = Command::new("/bin/sh")
        .args(["-c", "kill \"$0\" \"$1\"", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("running kill")?;
    if !status.success() {
        bail!("kill {name} {pid} failed");
    }
    Ok(())
}
