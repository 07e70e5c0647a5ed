//! The client libraries that docs/examples/clients is written with, and the programs that run them.
//!
//! They are installed below `target/clients` as that folder's lists say, by the machine's own pip and npm, and nothing is
//! kept outside of it. That takes half a minute, once, beside the building of the extension. What cannot be had is not
//! an error here: the tests that need it say so, and CI does not accept that.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};

use super::packages::find_program;
use crate::progress;

/// The programs with which the examples run, or why there are none.
#[derive(Debug, Clone)]
pub struct Clients {
    /// A Python that has what `requirements.txt` names.
    pub python: Result<PathBuf, String>,
    pub node: Result<Node, String>,
}

/// Node.js, and a folder in which what `package.json` names can be imported.
#[derive(Debug, Clone)]
pub struct Node {
    pub program: PathBuf,
    /// Has `node_modules`, and a copy of the examples that use it.
    pub dir: PathBuf,
}

/// What the machine itself has to have: packages that would bring what it lacks.
pub fn missing() -> Vec<Vec<String>> {
    let mut packages = Vec::new();
    if find_python().is_none() {
        packages.push(vec!["python3".to_string(), "python3-venv".to_string()]);
    }
    if find_node().is_none() {
        packages.push(vec!["nodejs".to_string(), "npm".to_string()]);
    }
    packages
}

/// Installs in threads of its own; [`Installing::wait`] gives what came of it.
pub fn begin() -> Installing {
    Installing {
        python: std::thread::spawn(|| python().map_err(|error| format!("{error:#}"))),
        node: std::thread::spawn(|| node().map_err(|error| format!("{error:#}"))),
    }
}

pub struct Installing {
    python: JoinHandle<Result<PathBuf, String>>,
    node: JoinHandle<Result<Node, String>>,
}

impl Installing {
    pub fn wait(self) -> Clients {
        Clients { python: joined(self.python), node: joined(self.node) }
    }
}

fn joined<T>(thread: JoinHandle<Result<T, String>>) -> Result<T, String> {
    thread.join().unwrap_or_else(|_| Err("the thread that installs it ended".to_string()))
}

fn examples() -> PathBuf {
    crate::root().join("docs/examples/clients")
}

fn home() -> PathBuf {
    crate::target().join("clients")
}

fn find_python() -> Option<PathBuf> {
    let script = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))";
    let fits = |python: &PathBuf| succeeds(Command::new(python).args(["-I", "-c", script]));
    find_program("python3").into_iter().chain([PathBuf::from("/usr/bin/python3")]).find(fits)
}

/// Node.js from 18 on, and npm.
fn find_node() -> Option<(PathBuf, PathBuf)> {
    let node = find_program("node")?;
    let script = "process.exit(Number(process.versions.node.split('.')[0]) >= 18 ? 0 : 1)";
    succeeds(Command::new(&node).args(["-e", script])).then_some((node, find_program("npm")?))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn python() -> Result<PathBuf> {
    let base = find_python().ok_or_else(|| anyhow!("there is no Python from 3.10 on with venv"))?;
    let list = examples().join("requirements.txt");
    let dir = home().join("python");
    let program = dir.join("bin/python");
    let stamp = Stamp::of(&home().join("python.stamp"), &[&list], base.as_os_str())?;
    if stamp.is_fresh() && program.is_file() {
        return Ok(program);
    }
    stamp.lift();
    remove(&dir)?;
    let log = |step: &str| crate::target().join(format!("logs/clients-{step}.log"));
    let mut venv = Command::new(&base);
    venv.args(["-I", "-m", "venv"]).arg(&dir);
    progress::run_quietly("making a Python environment", &mut venv, &log("venv"))?;
    let mut pip = Command::new(&program);
    pip.args(["-I", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]);
    pip.args(["--only-binary", ":all:", "-r"]).arg(&list);
    progress::run_quietly("installing Python client libraries", &mut pip, &log("pip"))?;
    stamp.set()?;
    Ok(program)
}

fn node() -> Result<Node> {
    let (program, npm) = find_node().ok_or_else(|| anyhow!("there is no Node.js from 18 on with npm"))?;
    let (from, dir) = (examples(), home().join("node"));
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let lists = ["package.json", "package-lock.json"].map(|name| from.join(name));
    let log = |step: &str| crate::target().join(format!("logs/clients-{step}.log"));

    let packages = Stamp::of(&home().join("npm.stamp"), &[&lists[0], &lists[1]], program.as_os_str())?;
    if !packages.is_fresh() || !dir.join("node_modules").is_dir() {
        packages.lift();
        for list in &lists {
            copy(list, &dir.join(list.file_name().unwrap_or_default()))?;
        }
        // No scripts: Prisma's would fetch engines that are not used here, from a host of its own.
        let mut ci = Command::new(&npm);
        ci.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        ci.args(["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=10000", "--cache"]).arg(home().join("npm"));
        ci.current_dir(&dir);
        progress::run_quietly("installing Node.js client libraries", &mut ci, &log("npm"))?;
        remove(&home().join("npm"))?;
        packages.set()?;
    }

    for example in ["node-postgres", "prisma"] {
        copy_dir(&from.join(example), &dir.join(example))?;
    }
    let node = Node { program, dir };
    let config = node.engine();
    std::fs::write(&config, ENGINE).with_context(|| format!("writing {}", config.display()))?;
    let schema = from.join("prisma/prisma/schema.prisma");
    let client = Stamp::of(&home().join("prisma.stamp"), &[&schema, &lists[1], &config], node.program.as_os_str())?;
    if !client.is_fresh() || !node.dir.join("node_modules/.prisma/client").is_dir() {
        client.lift();
        let mut generate = node.prisma(&node.dir.join("prisma"), &["generate", "--schema", "prisma/schema.prisma"]);
        progress::run_quietly("generating Prisma's client", &mut generate, &log("prisma"))?;
        client.set()?;
    }
    Ok(node)
}

/// Prisma's configuration, with which it needs nothing from a host of its own.
const ENGINE: &str = include_str!("clients/engine.config.mjs");

impl Node {
    fn engine(&self) -> PathBuf {
        self.dir.join("engine.config.mjs")
    }

    /// Prisma's command line, in a folder below [`Node::dir`]. Where the database is, PGHOST and its like say.
    pub fn prisma(&self, project: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.dir.join("node_modules/prisma/build/index.js")).args(words);
        command.arg("--config").arg(self.engine()).current_dir(project);
        // The schema names it, and Prisma wants it to look like one, also where the adapter knows better.
        command.env("DATABASE_URL", "postgresql://localhost/unused").env("PRISMA_HIDE_UPDATE_MESSAGE", "1");
        command.env("CHECKPOINT_DISABLE", "1").env("NO_COLOR", "1");
        command.env("XDG_CONFIG_HOME", home().join("config")).env("XDG_CACHE_HOME", home().join("cache"));
        command
    }
}

/// What something was installed from; beside what was installed.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    fn of(path: &Path, lists: &[&Path], program: &OsStr) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for list in lists {
            std::fs::read(list).with_context(|| format!("reading {}", list.display()))?.hash(&mut hasher);
        }
        Ok(Self { path: path.to_path_buf(), text: format!("{:016x} {}\n", hasher.finish(), program.display()) })
    }

    fn is_fresh(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    /// What is begun and fails is begun again.
    fn lift(&self) {
        std::fs::remove_file(&self.path).ok();
    }

    fn set(&self) -> Result<()> {
        std::fs::write(&self.path, &self.text).with_context(|| format!("writing {}", self.path.display()))
    }
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Files and folders; what is there already is overwritten.
pub fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_dir(&entry.path(), &to)?,
            kind if kind.is_file() => copy(&entry.path(), &to)?,
            kind => bail!("{} is {kind:?}", entry.path().display()),
        }
    }
    Ok(())
}
