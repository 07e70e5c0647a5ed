//! docs/examples/migrations/prisma, by a plain role that may make databases.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Trial;
use pg_test::provision::{self, Node, find_program};
use pg_test::{Client, Cluster, root};

use super::{ROWS, both, has_arrived, run, well, with_a_plain_role};
use crate::harness::{Nowhere, Skip};

pub fn tests() -> Vec<Trial> {
    crate::tests![prisma => 600]
}

struct Prisma<'a> {
    node: Node,
    dir: PathBuf,
    cluster: &'a Cluster,
}

impl Prisma<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.node.prisma(&self.dir, words);
        command.env("PGHOST", self.cluster.socket_dir()).env("PGPORT", self.cluster.port().to_string());
        command.env("PGUSER", "migrator").env("PGDATABASE", "shop");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&mut self.command(words))
    }

    fn migrate(&self, what: &str) -> Output {
        self.run(&["migrate", what, "--schema", "schema.prisma"])
    }

    /// The migrations, run in a shadow database, make what the schema says.
    fn migrations_make_the_schema(&self) {
        let words = ["migrate", "diff", "--from-migrations", "migrations", "--to-schema-datamodel", "schema.prisma"];
        let report = well(&self.run(&[&words[..], &["--exit-code"]].concat()));
        assert!(report.contains("No difference detected"), "{report}");
    }

    /// `migrate dev` compares the database with what the migrations make; it wants a terminal.
    fn dev(&self, terminal: &Path) -> String {
        let command = self.command(&["migrate", "dev", "--skip-generate", "--schema", "schema.prisma"]);
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
        let line: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new(terminal);
        script.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]).current_dir(&self.dir);
        script
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(std::process::Stdio::null());
        both(&run(&mut script))
    }
}

/// A folder that goes when the test ends, however it does.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn prisma(_: Nowhere) -> Result<(), Skip> {
    let terminal = find_program("script").ok_or_else(|| Skip("there is no program `script`".into()))?;
    let cluster = with_a_plain_role();
    let node = super::clients()?.node.map_err(Skip)?;
    // Below the folder that has the packages.
    let folder = Folder(node.dir.join(format!("migrations-{}", std::process::id())));
    let dir = folder.0.clone();
    provision::copy_dir(&root().join("docs/examples/migrations/prisma"), &dir).unwrap();
    let prisma = Prisma { node, dir: dir.clone(), cluster: &cluster };

    // First up to the table that was there before, and its rows.
    let (all, later) = (dir.join("migrations"), dir.join("later"));
    std::fs::create_dir(&later).unwrap();
    let to_come = |name: &str| name > "0004" && name < "9";
    let names =
        |dir: &Path| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in names(&all).filter(|name| to_come(name)).collect::<Vec<_>>() {
        std::fs::rename(all.join(&name), later.join(&name)).unwrap();
    }
    well(&prisma.migrate("deploy"));
    let owner = Client::connect(&cluster.config("migrator", "shop")).await.unwrap();
    owner.run(ROWS).await;
    for name in names(&later).collect::<Vec<_>>() {
        std::fs::rename(later.join(&name), all.join(&name)).unwrap();
    }
    well(&prisma.migrate("deploy"));
    has_arrived(&cluster).await;

    cluster.admin("shop", "CALL bulkhead.maintain()").unwrap();
    prisma.migrations_make_the_schema();
    let in_sync = prisma.dev(&terminal);
    assert!(in_sync.contains("Already in sync"), "{in_sync}");
    // And a difference is one.
    owner.run("DROP INDEX project_tenant").await;
    let drift = prisma.dev(&terminal);
    assert!(drift.contains("Drift detected") && drift.contains("index"), "{drift}");

    well(&prisma.run(&["migrate", "reset", "--force", "--skip-generate", "--schema", "schema.prisma"]));
    assert!(well(&prisma.migrate("status")).contains("Database schema is up to date!"));
    let protected =
        "SELECT count(*) FROM bulkhead.protected_tables WHERE relation::text IN ('event', 'project', 'task')";
    assert_eq!(owner.one(protected).await, "3");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'prisma%'";
    assert_eq!(owner.one(left).await, "0", "a shadow database is left behind");
    Ok(())
}
