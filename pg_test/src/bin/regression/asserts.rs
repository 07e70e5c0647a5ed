//! A server that checks itself as it runs, built of the sources that the suites are from: no distribution has one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use pg_test::{progress, provision};

use crate::source::{Source, log};

/// What the distribution's server is built with and the tests use. No JIT: it is the server's own, and slow to build.
const FEATURES: [&str; 4] = ["--with-openssl", "--with-icu", "--with-libxml", "--with-uuid=e2fs"];

/// Programs and headers of it, and the packages that bring them.
const PROGRAMS: [&str; 5] = ["make", "gcc", "bison", "flex", "pkg-config"];
const HEADERS: [(&str, &str); 6] = [
    ("openssl/ssl.h", "libssl-dev"),
    ("unicode/ucol.h", "libicu-dev"),
    ("libxml2/libxml/parser.h", "libxml2-dev"),
    ("uuid/uuid.h", "uuid-dev"),
    ("readline/readline.h", "libreadline-dev"),
    ("zlib.h", "zlib1g-dev"),
];

/// Its pg_config; built when it is not there yet.
pub fn server(source: &Source) -> Result<PathBuf> {
    let prefix = source.home.join("asserts");
    let pg_config = prefix.join("bin/pg_config");
    if pg_config.is_file() {
        return Ok(pg_config);
    }
    ensure_packages()?;
    // Under another name until it is whole.
    let build = source.home.join("asserts.build");
    std::fs::remove_dir_all(&build).ok();
    std::fs::create_dir_all(&build).with_context(|| format!("creating {}", build.display()))?;
    let mut configure = Command::new(std::path::absolute(source.dir.join("configure"))?);
    configure.arg(format!("--prefix={}", prefix.display())).args(["--enable-cassert", "--enable-debug"]);
    // Quicker than -O0, and a stack can still be read.
    configure.args(FEATURES).arg("CFLAGS=-O1 -fno-omit-frame-pointer").current_dir(&build);
    progress::run("configuring a server with assertions", &mut configure, &log("asserts-configure"))?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let make = |title: &str, words: &[&str]| {
        let mut make = Command::new("make");
        progress::run(title, make.arg("-s").args(words).current_dir(&build), &log("asserts-make"))
    };
    make("building it (once, some minutes)", &[&format!("-j{processors}")])?;
    make("building what comes with it", &["-C", "contrib"])?;
    make("installing what comes with it", &["-C", "contrib", "install"])?;
    make("installing it", &["install"])?;
    std::fs::remove_dir_all(&build).ok();
    Ok(pg_config)
}

fn ensure_packages() -> Result<()> {
    let programs = PROGRAMS.iter().filter(|name| provision::find_program(name).is_none()).copied();
    let headers = HEADERS.iter().filter(|(file, _)| !Path::new("/usr/include").join(file).is_file());
    let missing: Vec<String> = programs.chain(headers.map(|(_, package)| *package)).map(String::from).collect();
    if missing.is_empty() {
        return Ok(());
    }
    provision::install(&missing, "a server with assertions is built from PostgreSQL's sources")
}
