//! The Debian package: installed by dpkg below a directory of its own, used by a server, and removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::Trial;
use pg_test::provision::{Extension, For, Provision, find_program, provision};
use pg_test::{Cluster, Database, debian};

use crate::harness::{Nowhere, Skip};

pub fn tests() -> Vec<Trial> {
    crate::tests![what_dpkg_installs_works => 300]
}

/// Every file below the directory, by its path on a machine.
fn files(root: &Path, below: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(below).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(root, &path, found);
        } else {
            found.push((Path::new("/").join(path.strip_prefix(root).unwrap()), std::fs::read(&path).unwrap()));
        }
    }
}

fn dpkg(root: &Path, arguments: &[&str]) -> String {
    // Only the package itself is there, and not what it depends on.
    let mut command = Command::new("dpkg");
    command.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-not-root", "--log=/dev/null"]);
    let output = command.args(arguments).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "dpkg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The package's dependencies are to be had from where this machine's packages come from.
fn apt_would_install(package: &Path, name: &str) {
    let mut command = Command::new("apt-get");
    let output = command.args(["--simulate", "install"]).arg(std::path::absolute(package).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.lines().any(|line| line.starts_with(&format!("Inst {name} "))),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the package, the control file, the objects, the library and PGXN's description say of their version is what Cargo.toml says.
async fn one_version(db: &Database, package: &str) {
    let said = "SELECT concat_ws(' ', default_version, installed_version, s.value)
                  FROM pg_available_extensions e, bulkhead.status() s WHERE e.name = 'bulkhead' AND s.item = 'version'";
    let cargo = env!("CARGO_PKG_VERSION");
    assert_eq!(db.connect("postgres").await.one(said).await, format!("{cargo} {cargo} {cargo}"));
    assert_eq!(package, format!("{cargo}-1"));
    let meta = std::fs::read_to_string(pg_test::root().join("META.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert_eq!((&meta["version"], &meta["provides"]["bulkhead"]["version"]), (&cargo.into(), &cargo.into()));
    // What PGXN wants of a description.
    for key in ["name", "abstract", "maintainer", "license", "meta-spec"] {
        assert!(!meta[key].is_null(), "META.json has no {key}");
    }
    for key in ["file", "docfile"] {
        let named = meta["provides"]["bulkhead"][key].as_str().unwrap();
        assert!(pg_test::root().join(named).is_file(), "META.json: {named}");
    }
}

async fn what_dpkg_installs_works(_: Nowhere) -> Result<(), Skip> {
    for program in ["dpkg", "dpkg-deb", "dpkg-shlibdeps", "apt-get"] {
        if find_program(program).is_none() {
            return Err(Skip(format!("there is no {program}")));
        }
    }
    let built = provision(For::Tests).unwrap();
    let directory = pg_test::target().join(format!("debian-test-{}", std::process::id()));
    let again = std::fs::read(debian::build(&built, &directory).unwrap()).unwrap();
    let package = debian::build(&built, &directory).unwrap();
    assert!(std::fs::read(&package).unwrap() == again, "two builds differ");
    let root = std::path::absolute(directory.join("root")).unwrap();
    for made in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        std::fs::create_dir_all(root.join(made)).unwrap();
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();

    dpkg(&root, &["--install", package.to_str().unwrap()]);
    let name = format!("postgresql-{}-bulkhead", built.postgres.major);
    assert_eq!(dpkg(&root, &["--verify", &name]), "", "files differ from what the package says of them");
    let said = dpkg(&root, &["--status", &name]);
    assert!(said.contains("Status: install ok installed"), "{said}");
    let version = said.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or_default();
    let depends = said.lines().find(|line| line.starts_with("Depends: ")).unwrap_or_default();
    assert!(
        depends.starts_with(&format!("Depends: postgresql-{}, ", built.postgres.major))
            && depends.contains("libc6 (>= "),
        "{said}"
    );

    apt_would_install(&package, &name);

    let mut installed = Vec::new();
    files(&root, &root.join("usr"), &mut installed);
    let documents = |path: &Path| path.starts_with("/usr/share/doc");
    let copyright = installed.iter().filter(|(path, _)| path.ends_with("copyright")).count();
    assert_eq!(copyright, 1);
    installed.retain(|(path, _)| !documents(path));
    let names = |files: &[(PathBuf, Vec<u8>)]| {
        let mut names: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&installed), names(&built.extension.files));

    // A server that has the extension from the package, whose library is stripped.
    let from_package = Provision { extension: Arc::new(Extension { files: installed }), ..built.clone() };
    let cluster = Cluster::builder().server(from_package).start().unwrap();
    let db = cluster.database("package").unwrap();
    one_version(&db, version).await;
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE note (tenant_id text, body text); SELECT bulkhead.protect('note')").await;
    owner.run("SET bulkhead.tenant_context = 'a'; INSERT INTO note (body) VALUES ('mine')").await;
    let app = db.connect("app").await;
    app.refused("SELECT * FROM note").await.state("42501");
    app.run("SET bulkhead.tenant_context = 'b'").await;
    assert_eq!(app.one("SELECT count(*) FROM note").await, "0");
    app.run("SET bulkhead.tenant_context = 'a'").await;
    assert_eq!(app.one("SELECT body FROM note").await, "mine");
    cluster.end();

    dpkg(&root, &["--remove", &name]);
    let mut left = Vec::new();
    files(&root, &root.join("usr"), &mut left);
    assert!(left.is_empty(), "left behind: {:?}", names(&left));
    assert!(!root.join("usr").exists(), "an empty directory is left");
    std::fs::remove_dir_all(&directory).unwrap();
    Ok(())
}
