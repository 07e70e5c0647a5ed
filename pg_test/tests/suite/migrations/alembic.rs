//! docs/examples/migrations/alembic, by a plain role.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, provision, root};

use super::{ROWS, both, has_arrived, run, spoil, well, with_a_plain_role};
use crate::harness::{Nowhere, Skip};

pub fn tests() -> Vec<Trial> {
    crate::tests![alembic => 600]
}

struct Alembic<'a> {
    python: PathBuf,
    dir: PathBuf,
    cluster: &'a Cluster,
}

impl Alembic<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        let (host, port) = (self.cluster.socket_dir().display(), self.cluster.port());
        command
            .args(["-B", "-m", "alembic", "-c"])
            .arg(self.dir.join("alembic.ini"))
            .args(words)
            .current_dir(&self.dir);
        command.env("MIGRATE_URL", format!("postgresql+psycopg://migrator@/shop?host={host}&port={port}"));
        command.env("PYTHONPATH", &self.dir);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&mut self.command(words))
    }

    fn nothing_to_report(&self) {
        let report = well(&self.run(&["check"]));
        assert!(report.contains("No new upgrade operations detected."), "{report}");
    }

    fn reports(&self, what: &[&str]) {
        let report = self.run(&["check"]);
        let text = both(&report);
        assert!(!report.status.success() && what.iter().all(|name| text.contains(name)), "{text}");
    }
}

async fn alembic(_: Nowhere) -> Result<(), Skip> {
    let cluster = with_a_plain_role();
    let python = super::clients()?.python.map_err(Skip)?;
    let dir = cluster.dir().join("alembic");
    provision::copy_dir(&root().join("docs/examples/migrations/alembic"), &dir).unwrap();
    let alembic = Alembic { python, dir: dir.clone(), cluster: &cluster };

    well(&alembic.run(&["upgrade", "0003"]));
    let owner = Client::connect(&cluster.config("migrator", "shop")).await.unwrap();
    owner.run(ROWS).await;
    nobody_waits_long(&alembic, &owner).await;
    well(&alembic.run(&["upgrade", "head"]));
    has_arrived(&cluster).await;

    // Partitions that maintain() makes are none of Alembic's.
    cluster.admin("shop", "CALL bulkhead.maintain()").unwrap();
    assert_ne!(owner.one("SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass").await, "0");
    alembic.nothing_to_report();
    well(&alembic.run(&["upgrade", "head"]));
    differences_are_reported(&alembic, &owner, &dir).await;
    well(&alembic.run(&["downgrade", "0004"]));
    Ok(())
}

/// The check that finds nothing finds what there is; and what the filter leaves out would be found.
async fn differences_are_reported(alembic: &Alembic<'_>, owner: &Client, dir: &Path) {
    owner.run("DROP INDEX project_tenant").await;
    spoil(&dir.join("env.py"), "        include_name=include_name,\n", "");
    alembic.reports(&[
        "'remove_table', Table('protection'",
        "'remove_table', Table('event_p",
        "Index('project_tenant'",
    ]);
}

/// 0004 beside a transaction that keeps the table in use: it gives up, is run again, and nobody else waits for long.
async fn nobody_waits_long(alembic: &Alembic<'_>, owner: &Client) {
    let cluster = alembic.cluster;
    let reader = Client::connect(&cluster.config("migrator", "shop")).await.unwrap();
    reader.run("BEGIN; SELECT count(*) FROM task").await;
    let mut upgrade = alembic.command(&["upgrade", "0004"]);
    let upgrading = tokio::task::spawn_blocking(move || run(&mut upgrade));
    let (mut longest, mut inserts) = (Duration::ZERO, 0);
    while !upgrading.is_finished() {
        let begin = Instant::now();
        owner.run("INSERT INTO task (tenant_id, title) VALUES ('h2o', 'Task')").await;
        longest = longest.max(begin.elapsed());
        inserts += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gave_up = upgrading.await.unwrap();
    assert!(both(&gave_up).contains("lock timeout"), "{}", both(&gave_up));
    assert!(inserts > 10 && longest < Duration::from_secs(8), "{inserts} inserts, the longest took {longest:?}");
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.protected_tables WHERE relation::text = 'task'").await, "0");
    reader.run("COMMIT").await;
    owner.run("DELETE FROM task WHERE title = 'Task'").await;
    well(&alembic.run(&["upgrade", "0004"]));
}
