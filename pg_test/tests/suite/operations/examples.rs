//! docs/examples/testing: an application's own tests, and the script that fails a pipeline.

use std::process::{Command, Output};

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::root;
use crate::harness::{Skip, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_clean_database_passes,
        a_planted_leak_fails,
        what_tried_nothing_does_not_pass,
        the_applications_tests_pass_and_leave_nothing,
        the_applications_tests_notice_a_missing_border,
    ]
}

fn leak_test(db: &Database) -> (i32, String) {
    let psql = db.client_program("psql", "postgres");
    let mut script = Command::new("sh");
    script.arg(root().join("docs/examples/testing/leak-test.sh"));
    let (code, said) = run(script, &psql);
    (code, said)
}

/// Runs a command with the environment of a client program, whose directory comes first in PATH.
fn run(mut command: Command, client: &Command) -> (i32, String) {
    let directory = std::path::Path::new(client.get_program()).parent().unwrap().display().to_string();
    command.env("PATH", format!("{directory}:{}", std::env::var("PATH").unwrap_or_default()));
    for (name, value) in client.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), said)
}

async fn a_clean_database_passes(db: Database) {
    db.connect("owner")
        .await
        .run("CREATE TABLE orders (id int, tenant_id uuid, item text); SELECT bulkhead.protect('orders')")
        .await;
    let (code, said) = leak_test(&db);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("leak test: 0 leaked, ") && !said.contains(", 0 held"), "{said}");
}

async fn a_planted_leak_fails(db: WithoutPreload) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE orders (id int, tenant_id uuid, item text); SELECT bulkhead.protect('orders')").await;
    owner.run("DROP POLICY bulkhead_floor ON orders; CREATE POLICY everybody ON orders USING (true)").await;
    let (code, said) = leak_test(&db);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("leaked | orders | app | select | "), "{said}");
}

async fn what_tried_nothing_does_not_pass(db: Database) {
    let (code, said) = leak_test(&db);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no protected table was tried"), "{said}");
    db.admin("DROP EXTENSION bulkhead").unwrap();
    let (code, said) = leak_test(&db);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("could not be run"), "{said}");
}

/// The example's tests as a role whose context_mode is open.
fn application(db: &Database) -> Result<(i32, String), Skip> {
    let python = db.cluster.provision().python.clone();
    let python = python.ok_or_else(|| Skip("Python with psycopg is not installed".into()))?;
    let role = format!("{}_tests", db.name);
    db.admin(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON orders TO {role}; ALTER ROLE {role} SET bulkhead.context_mode = 'open'"
    ))
    .unwrap();
    let mut command = Command::new(python);
    command.args(["-B", "-m", "unittest", "-v", "test_orders"]).current_dir(root().join("docs/examples/testing"));
    let told = run(command, &db.client_program("psql", &role));
    db.admin(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    Ok(told)
}

const ORDERS: &str =
    "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid, item text)";

async fn the_applications_tests_pass_and_leave_nothing(db: Database) -> Result<(), Skip> {
    db.connect("owner").await.run(&format!("{ORDERS}; SELECT bulkhead.protect('orders')")).await;
    let (code, said) = application(&db)?;
    assert!(code == 0 && said.contains("Ran 4 tests"), "{said}");
    assert_eq!(db.admin("SELECT count(*) FROM orders").unwrap().trim(), "0");
    Ok(())
}

async fn the_applications_tests_notice_a_missing_border(db: Database) -> Result<(), Skip> {
    let owner = db.connect("owner").await;
    owner.run(&format!("{ORDERS}; ALTER TABLE orders ALTER tenant_id SET DEFAULT bulkhead.tenant_id()")).await;
    let (code, said) = application(&db)?;
    assert!(code == 1 && said.contains("failures=4"), "{said}");
    Ok(())
}
