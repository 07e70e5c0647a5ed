//! What the tests of the context stand on: a protected table with rows of two tenants, and how to look at it.

use pg_test::{Client, Database};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// `note(id, tenant_id uuid, body)`, protected: ids 1 to 5 of A, 6 to 8 of B. `tag(id, tenant_id text)`, protected: 'h2o', 'H2O'.
pub async fn notes(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE note (id int PRIMARY KEY, tenant_id uuid, body text);
             INSERT INTO note SELECT i, CASE WHEN i <= 5 THEN '{A}' ELSE '{B}' END::uuid, 'note ' || i FROM generate_series(1, 8) i;
             SELECT bulkhead.protect('note');
             CREATE TABLE tag (id int PRIMARY KEY, tenant_id text);
             INSERT INTO tag VALUES (1, 'h2o'), (2, 'H2O'), (3, 'h2o ');
             SELECT bulkhead.protect('tag')"
        ))
        .await;
}

/// A protected table for the plain role, and a session of it.
pub async fn app(db: &Database) -> Client {
    notes(db).await;
    db.connect("app").await
}

/// The ids of the notes that the session sees.
pub async fn seen(client: &Client) -> Vec<String> {
    client.column("SELECT id FROM note ORDER BY id").await
}

pub const OF_A: [&str; 5] = ["1", "2", "3", "4", "5"];
pub const OF_B: [&str; 3] = ["6", "7", "8"];

/// For the tests that switch tenants at will.
pub async fn open_mode(db: &Database) {
    let sql = format!("ALTER DATABASE {} SET bulkhead.context_mode = 'open'", db.name);
    db.connect("postgres").await.run(&sql).await;
}
