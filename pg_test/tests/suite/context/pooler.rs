//! Behind a real pgbouncer in transaction mode: no transaction ever sees another's tenant.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use crate::harness::Skip;
use crate::pooled::pooler;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_thousand_transactions_of_fifty_tenants_over_five_connections,
        a_session_level_tenant_left_behind_cannot_be_used_unnoticed_in_a_block
    ]
}

const TENANTS: usize = 50;
const CLIENTS: usize = 20;
const TRANSACTIONS: usize = 50;

async fn documents(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE doc (id bigserial, tenant_id text, body text);
             INSERT INTO doc (tenant_id, body) SELECT 'tenant ' || t, 'x' FROM generate_series(1, {TENANTS}) t, generate_series(1, 7);
             SELECT bulkhead.protect('doc'); ANALYZE doc"
        ))
        .await;
}

async fn a_thousand_transactions_of_fifty_tenants_over_five_connections(db: Database) -> Result<(), Skip> {
    let pooler = pooler(&db, 5)?;
    documents(&db).await;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let connection = pooler.connect("app", &db).await;
        tasks.push(tokio::spawn(transactions(connection, client)));
    }
    let mut backends = std::collections::BTreeSet::new();
    let mut done = 0;
    for task in tasks {
        let seen = task.await.unwrap();
        done += seen.len();
        backends.extend(seen);
    }
    assert_eq!(done, CLIENTS * TRANSACTIONS);
    assert!(backends.len() <= 5, "{backends:?}");
    Ok(())
}

/// Transactions of changing tenants, every third rolled back or failed; gives the server process of each.
async fn transactions(client: Client, seed: usize) -> Vec<String> {
    let mut pids = Vec::new();
    for n in 0..TRANSACTIONS {
        let tenant = format!("tenant {}", 1 + (seed * 31 + n * 7) % TENANTS);
        client.run("BEGIN").await;
        // What an earlier client set must be gone, before this one sets its own.
        assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
        if n % 2 == 0 {
            client.run(&format!("SET LOCAL bulkhead.tenant_context = '{tenant}'")).await;
        } else {
            client.run(&format!("SELECT bulkhead.set_tenant('{tenant}')")).await;
        }
        let rows = client.rows("SELECT tenant_id, count(*) FROM doc GROUP BY 1").await;
        assert_eq!(rows, [[tenant.as_str(), "7"]]);
        pids.push(client.one("SELECT pg_backend_pid()").await);
        match n % 3 {
            0 => client.run("ROLLBACK").await,
            1 => {
                client.refused("SELECT 1 / 0").await.state("22012");
                client.run("ROLLBACK").await;
            }
            _ => client.run("COMMIT").await,
        }
        client.refused("SELECT count(*) FROM doc").await.state("42501");
    }
    pids
}

async fn a_session_level_tenant_left_behind_cannot_be_used_unnoticed_in_a_block(db: Database) -> Result<(), Skip> {
    let pooler = pooler(&db, 1)?;
    documents(&db).await;
    let careless = pooler.connect("app", &db).await;
    careless.run("SET bulkhead.tenant_context = 'tenant 1'").await;
    // The next client on the same connection sets its own and gets its own: the fault that remains is to set none.
    let careful = pooler.connect("app", &db).await;
    careful.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'tenant 2'").await;
    assert_eq!(careful.column("SELECT DISTINCT tenant_id FROM doc").await, ["tenant 2"]);
    careful.run("COMMIT").await;
    assert_eq!(careful.one("SELECT value FROM bulkhead.status() WHERE item = 'source'").await, "session");
    careful.run("DISCARD ALL").await;
    careful.refused("SELECT FROM doc").await.state("42501");
    Ok(())
}
