//! Ends a cluster when its runner is gone, however it went.
//!
//! The guard is a shell that reads from a pipe whose only write end is the runner's. It ignores the
//! signals that end the runner and sits in a process group of its own. When the pipe closes it stops
//! the server, then kills whatever still runs a program of the directory, then deletes the directory.
//! The data is thrown away, so the server is not given the time for a last checkpoint.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT PIPE
dir=$1
cd /
if read -r word && [ "$word" = keep ]; then exit 0; fi
ours() { find /proc/[0-9]* -maxdepth 1 -name exe -lname "$dir/*" 2>/dev/null | cut -d / -f 3; }
signal() { for pid in $(ours); do kill "-$1" "$pid" 2>/dev/null; done; }
postmaster=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)
for pid in $(ours); do
    if [ "$pid" = "$postmaster" ]; then kill -QUIT "$pid"; fi
done
tries=0
while [ -n "$(ours)" ] && [ "$tries" -lt 60 ]; do
    # Clients and half-started servers get no grace: nobody waits for them.
    if [ -z "$postmaster" ] || [ "$tries" -gt 20 ]; then signal KILL; fi
    sleep 0.1
    tries=$((tries + 1))
done
tries=0
while [ -e "$dir" ] && [ "$tries" -lt 50 ]; do
    signal KILL
    rm -rf "$dir" 2>/dev/null || sleep 0.1
    tries=$((tries + 1))
done
"#;

pub(super) struct Guard {
    process: Child,
    lifeline: ChildStdin,
}

impl Guard {
    /// Watches over the directory from now on.
    pub fn set(dir: &Path) -> Result<Self> {
        let mut process = Command::new("/bin/sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("bulkhead-guard")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("starting the guard of the temporary server")?;
        let lifeline = process.stdin.take().context("the guard has no pipe")?;
        Ok(Self { process, lifeline })
    }

    /// Lets the guard go without ending anything.
    pub fn dismiss(mut self) {
        self.lifeline.write_all(b"keep\n").ok();
        drop(self.lifeline);
        self.process.wait().ok();
    }

    /// Lets the guard do its work and waits until it is done.
    pub fn finish(mut self) {
        drop(self.lifeline);
        self.process.wait().ok();
    }
}
