//! Sessions that act for a tenant, and rule sets.

use pg_test::{Client, Database};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "shop-2";

/// A plain role's session that acts for a tenant, and may put rule sets.
pub async fn acting(db: &Database, tenant: &str) -> Client {
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.put_rule_set, bulkhead.activate_rule_set TO app").unwrap();
    let client = db.connect("app").await;
    client.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
    client
}

/// Puts a rule set of one rule that always holds.
pub async fn put(client: &Client, name: &str, score: i32) -> String {
    client.one(&format!("SELECT bulkhead.put_rule_set('{name}', '{}')", constant(score))).await
}

/// The same for all tenants.
pub fn share(db: &Database, name: &str, score: i32) {
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('{name}', '{}')", constant(score))).unwrap();
}

fn constant(score: i32) -> String {
    format!(r#"[{{"id": "always", "when": true, "score": {score}}}]"#)
}

pub async fn score(client: &Client, name: &str) -> String {
    client.one(&format!("SELECT bulkhead.score('{name}', '{{}}')")).await
}

/// Memory of the session's process that is nobody else's, in kB.
pub async fn anonymous(client: &Client) -> i64 {
    let pid = client.one("SELECT pg_backend_pid()").await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the session's process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line about memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
