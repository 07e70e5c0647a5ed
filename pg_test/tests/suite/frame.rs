//! The frame itself: what every other test takes for granted.

use libtest_mimic::Trial;
use pg_test::Database;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_extension_is_created, the_plain_roles_are_plain]
}

async fn the_extension_is_created(db: Database) {
    let app = db.connect("app").await;
    let schema = app
        .one("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'bulkhead'")
        .await;
    assert_eq!(schema, "bulkhead");
}

async fn the_plain_roles_are_plain(db: Database) {
    let app = db.connect("app").await;
    let roles = app
        .rows(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolreplication FROM pg_roles
              WHERE rolname IN ('app', 'owner', 'svc') ORDER BY rolname",
        )
        .await;
    assert_eq!(
        roles,
        [
            ["app", "f", "f", "f", "f"],
            ["owner", "f", "f", "f", "f"],
            ["svc", "f", "t", "f", "f"]
        ]
    );
}
