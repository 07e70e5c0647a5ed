//! The pooler's own proof: many clients share few server connections.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use pg_test::pooler::Pooler;
use pg_test::{Client, Database};

use crate::harness::Skip;

pub fn tests() -> Vec<Trial> {
    crate::tests![clients_share_the_servers_connections]
}

/// A pgbouncer in front of the test's cluster, or the reason why there is none.
pub fn pooler(db: &Database, pool_size: u32) -> Result<Pooler, Skip> {
    if !Pooler::is_available(&db.cluster) {
        return Err(Skip("pgbouncer is not installed".into()));
    }
    Ok(Pooler::start(&db.cluster, pool_size).unwrap())
}

async fn clients_share_the_servers_connections(db: Database) -> Result<(), Skip> {
    let pooler = pooler(&db, 2)?;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let client = pooler.connect("app", &db).await;
        tasks.push(tokio::spawn(several_transactions(client)));
    }
    let mut backends = BTreeSet::new();
    for task in tasks {
        backends.extend(task.await.unwrap());
    }
    assert!((1..=2).contains(&backends.len()), "{backends:?}");
    Ok(())
}

/// The server process of each transaction.
async fn several_transactions(client: Client) -> Vec<String> {
    let mut pids = Vec::new();
    for _ in 0..10 {
        client.run("BEGIN").await;
        let pid = client.one("SELECT pg_backend_pid()").await;
        let same = client.one("SELECT pg_backend_pid()").await;
        client.run("COMMIT").await;
        assert_eq!(pid, same, "a transaction stays on one server connection");
        pids.push(pid);
    }
    pids
}
