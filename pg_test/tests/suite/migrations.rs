//! docs/migrations.md, done: by the tools it names, by roles that may no more than it says, and with a look at who sees what
//! between the steps.

mod alembic;
mod prisma;
mod recipes;
mod rights;

use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Trial;
use pg_test::provision::{self, Clients, For};
use pg_test::{Client, Cluster, progress};

use crate::harness::Skip;

pub fn tests() -> Vec<Trial> {
    [alembic::tests(), prisma::tests(), recipes::tests(), rights::tests()].into_iter().flatten().collect()
}

/// A server of its own whose `template1` has the extension, a role that may make databases and nothing else, and its
/// database `shop`.
fn with_a_plain_role() -> Cluster {
    let cluster = progress::stage("started a server for migrations", || Cluster::builder().start()).unwrap();
    cluster.admin("template1", "CREATE EXTENSION bulkhead").unwrap();
    cluster.admin("postgres", "CREATE ROLE migrator LOGIN CREATEDB").unwrap();
    let made = cluster.psql("migrator", "postgres", "CREATE DATABASE shop").unwrap();
    assert!(made.status.success(), "{}", both(&made));
    cluster
}

/// What was installed for the examples.
fn clients() -> Result<Clients, Skip> {
    let provision = provision::provision(For::Tests).unwrap();
    provision.clients.ok_or_else(|| Skip("client libraries are not installed".into()))
}

/// What was there when 0004 came: a table that is not protected, with rows of two tenants.
const ROWS: &str = "
INSERT INTO tenant VALUES ('acme'), ('h2o');
INSERT INTO task (tenant_id, title) SELECT (ARRAY['acme', 'h2o'])[n % 2 + 1], 'Task ' || n FROM generate_series(1, 10) n;";

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Both streams of a program's output.
fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn well(output: &Output) -> String {
    let text = both(output);
    assert!(output.status.success(), "{text}");
    text
}

/// A file of an example with something replaced, to see that the tests notice.
fn spoil(file: &Path, what: &str, by: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(what), "{} has no {what}", file.display());
    std::fs::write(file, text.replace(what, by)).unwrap();
}

/// After all migrations: what is protected, filled and seen is the same, whichever tool ran them.
async fn has_arrived(cluster: &Cluster) {
    let owner = Client::connect(&cluster.config("migrator", "shop")).await.unwrap();
    let protected = owner.rows(
        "SELECT relation, shared FROM bulkhead.protected_tables WHERE relation::text !~ '_p' ORDER BY relation::text",
    );
    assert_eq!(protected.await, [["event", "f"], ["project", "f"], ["task", "f"], ["tenant", "t"]]);
    owner.run("GRANT SELECT, INSERT ON task TO app").await;
    let app = Client::connect(&cluster.config("app", "shop")).await.unwrap();
    app.run("BEGIN; SELECT bulkhead.set_tenant('acme')").await;
    assert_eq!(app.rows("SELECT count(*), count(*) FILTER (WHERE slug LIKE 'task %') FROM task").await, [["5", "5"]]);
    app.run("COMMIT").await;
    app.refused("SELECT FROM task").await.state("42501");
    let errors = "SELECT rule, object FROM bulkhead.lint() WHERE level = 'error'";
    assert_eq!(owner.rows(errors).await, Vec::<Vec<String>>::new());
}
