//! lint_allow(): findings that are meant.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::clean;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        an_allowed_finding_is_a_note_with_the_reason,
        only_the_object_named_is_allowed,
        a_second_call_replaces_and_null_takes_back,
        what_nothing_needs_is_noted,
        bad_arguments_are_refused,
        nobody_allows_without_the_right,
        exceptions_are_dumped,
    ]
}

const ORDERS: &str =
    "SELECT level, detail, remedy FROM bulkhead.lint() WHERE rule = 'rls-not-forced' AND object = 'shop.orders'";

/// A superuser's session on the clean schema with one fault.
async fn faulty(db: &Database) -> Client {
    clean(db);
    let admin = db.connect("postgres").await;
    admin.run("ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY").await;
    admin
}

async fn an_allowed_finding_is_a_note_with_the_reason(db: Database) {
    let admin = faulty(&db).await;
    admin.run("SELECT bulkhead.lint_allow('rls-not-forced', 'shop.orders', 'nightly report')").await;
    // For whoever asks.
    let found = db.connect("app").await.rows(ORDERS).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0][0].as_str(), found[0][2].as_str()), ("info", "NULL"));
    assert!(found[0][1].starts_with("allowed by postgres: nightly report ("), "{}", found[0][1]);
}

async fn only_the_object_named_is_allowed(db: Database) {
    let admin = faulty(&db).await;
    admin.run("ALTER TABLE shop.comments NO FORCE ROW LEVEL SECURITY").await;
    admin.run("SELECT bulkhead.lint_allow('rls-not-forced', 'shop.comments', 'x'), bulkhead.lint_allow('rls-disabled', 'shop.orders', 'x')").await;
    assert_eq!(admin.rows(ORDERS).await[0][0], "error");
}

async fn a_second_call_replaces_and_null_takes_back(db: Database) {
    let admin = faulty(&db).await;
    for reason in ["one", "two"] {
        admin.run(&format!("SELECT bulkhead.lint_allow('rls-not-forced', 'shop.orders', '{reason}')")).await;
    }
    assert_eq!(admin.rows("SELECT reason FROM bulkhead.lint_exceptions").await, [["two"]]);
    admin.run("SELECT bulkhead.lint_allow('rls-not-forced', 'shop.orders', NULL)").await;
    assert_eq!(admin.rows(ORDERS).await[0][0], "error");
    assert_eq!(admin.one("SELECT count(*) FROM bulkhead.lint_exceptions").await, "0");
}

async fn what_nothing_needs_is_noted(db: Database) {
    let admin = faulty(&db).await;
    admin.run("SELECT bulkhead.lint_allow('rls-disabled', 'shop.it''s gone', 'x')").await;
    let unused = "SELECT level, object, remedy FROM bulkhead.lint() WHERE rule = 'unused-exception'";
    let found = admin.rows(unused).await;
    assert_eq!(
        found,
        [["info", "shop.it's gone", "SELECT bulkhead.lint_allow('rls-disabled', 'shop.it''s gone', NULL)"]]
    );
    admin.run(&found[0][2]).await;
    assert_eq!(admin.rows(unused).await.len(), 0);
}

async fn bad_arguments_are_refused(db: Database) {
    let admin = db.connect("postgres").await;
    let call = |arguments: &str| format!("SELECT bulkhead.lint_allow({arguments})");
    let unknown = admin.refused(&call("'rls-disable', 'x', 'y'")).await;
    unknown.state("22023").message("there is no lint rule \"rls-disable\"").hint_contains("\"rls-disabled\"");
    for arguments in ["NULL, 'x', 'y'", "'rls-disabled', NULL, 'y'"] {
        admin.refused(&call(arguments)).await.state("22023").message("the rule and the object must not be NULL");
    }
    for arguments in ["'rls-disabled', 'x', ''", "'rls-disabled', 'x', '  '"] {
        admin.refused(&call(arguments)).await.state("22023").message("the reason must not be empty");
    }
}

async fn nobody_allows_without_the_right(db: Database) {
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        client.refused("SELECT bulkhead.lint_allow('rls-disabled', 'x', 'y')").await.state("42501");
        client.refused("INSERT INTO bulkhead.lint_exceptions VALUES ('a', 'b', 'c')").await.state("42501");
        client.refused("SELECT * FROM bulkhead.lint_exceptions").await.state("42501");
    }
    // It is given like any function, and the name is that of who used it.
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.lint_allow TO owner").unwrap();
    db.connect("owner").await.run("SELECT bulkhead.lint_allow('rls-disabled', 'x', 'y')").await;
    assert_eq!(db.admin("SELECT allowed_by FROM bulkhead.lint_exceptions").unwrap().trim(), "owner");
}

async fn exceptions_are_dumped(db: Database) {
    db.admin("SELECT bulkhead.lint_allow('rls-disabled', 'shop.kept', 'y')").unwrap();
    let dump = db.client_program("pg_dump", "postgres").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(String::from_utf8_lossy(&dump.stdout).contains("rls-disabled\tshop.kept\ty\t"));
}
