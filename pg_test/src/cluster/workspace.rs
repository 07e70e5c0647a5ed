//! The one directory that a cluster lives in, and the user that its processes run as.
//!
//! The directory belongs to that user and nobody else may enter: the server trusts whoever reaches
//! its socket.

use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::clean_environment;

/// A Unix socket's whole path must fit into `sockaddr_un`.
const SOCKET_PATH_MAX: usize = 107;

#[derive(Debug)]
pub(crate) struct Workspace {
    pub dir: PathBuf,
    pub data: PathBuf,
    pub sockets: PathBuf,
    pub log: PathBuf,
    bindir: PathBuf,
    user: Option<User>,
}

/// Whom root runs the server as; PostgreSQL refuses to be root.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Workspace {
    /// Makes the empty directory; `bindir` is where the server's programs will be inside it.
    pub fn create(bindir_inside: impl FnOnce(&Path) -> PathBuf) -> Result<Self> {
        let user = if crate::provision::is_root() { Some(User::find()?) } else { None };
        let dir = make_temporary(user.is_some())?;
        if let Some(user) = user {
            chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        let workspace = Self {
            data: dir.join("data"),
            sockets: dir.join("s"),
            log: dir.join("server.log"),
            bindir: bindir_inside(&dir),
            dir,
            user,
        };
        Ok(workspace)
    }

    pub fn bin(&self, program: &str) -> PathBuf {
        self.bindir.join(program)
    }

    /// A directory inside that the server's user may write.
    pub fn make_dir(&self, path: &Path) -> Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(path).with_context(|| format!("creating {}", path.display()))?;
        self.give(path)
    }

    /// Makes the server's user the owner of a file or directory.
    pub fn give(&self, path: &Path) -> Result<()> {
        if let Some(user) = self.user {
            chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("changing the owner of {}", path.display()))?;
        }
        Ok(())
    }

    /// A command that runs as the server's user, in its own process group: Ctrl-C is for the
    /// runner, and the guard stops the rest in order.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        clean_environment(&mut command);
        command.env("HOME", &self.dir).env("TMPDIR", &self.dir);
        command.current_dir(&self.dir).process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// The processes that run a program of this directory.
    pub fn processes(&self) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&self.dir)))
            .collect()
    }
}

impl User {
    fn find() -> Result<Self> {
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
                return Ok(Self { uid, gid });
            }
        }
        bail!("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")
    }
}

fn id(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn make_temporary(another_user: bool) -> Result<PathBuf> {
    // A process's program is known by its real path, so the directory has to be as well.
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let wanted = real(std::env::temp_dir());
    let base = if is_fit(&wanted, another_user) { wanted } else { real(PathBuf::from("/tmp")) };
    for _ in 0..100 {
        let random = RandomState::new().hash_one(std::process::id());
        let dir = base.join(format!("bulkhead-{:08x}", random & 0xffff_ffff));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(anyhow!(error).context(format!("creating {}", dir.display())));
            }
        }
    }
    bail!("no free name for a directory in {}", base.display())
}

/// Short enough for a socket, safe in the guard's pattern, and enterable by the server's user.
fn is_fit(base: &Path, another_user: bool) -> bool {
    let socket = base.join("bulkhead-00000000/pgbouncer-65535/.s.PGSQL.65535");
    let text = base.to_string_lossy();
    let open = |dir: &Path| dir.metadata().is_ok_and(|data| data.permissions().mode() & 0o1 != 0);
    base.is_absolute()
        && socket.as_os_str().len() <= SOCKET_PATH_MAX
        && !text.contains(['*', '?', '[', '\\', '\'', '\n'])
        && (!another_user || base.ancestors().all(open))
}
