//! The comparison can fail: where it has found queries equal, the same code has to notice what is broken on purpose.
//!
//! First a session that is past the seal, to which B's rows come, too; then twins in which a value is changed, a row is added, a row is missing.

use anyhow::{Result, ensure};
use pg_test::{Client, Database};

use crate::differential::{Outcome, compare, settle};

/// What is done to the twins, and the query that has to differ then.
const PLANTED: [(&str, &str); 3] = [
    ("UPDATE notes SET mood = 'planted' WHERE id = 1", "SELECT * FROM notes"),
    ("INSERT INTO leads (tenant_id, id) VALUES ('planted', 0)", "SELECT * FROM leads"),
    ("DELETE FROM prices WHERE sku = 'sku 1'", "SELECT * FROM prices"),
];
/// How many of the random queries are run again past the seal.
const AGAIN: usize = 50;

/// Fails when one of the fixed queries does not. Of the random queries, those that were equal and had rows: how many were run again, and how many of them differ.
pub async fn notice(db: &Database, plain: &[Client; 2], sealed: &Client, equal: &[String]) -> Result<(u64, u64)> {
    for (_, query) in PLANTED {
        ensure!(!differs(plain, sealed, query).await?, "differs with nothing planted: {query}");
    }
    let open = settle(db.past_the_seal("postgres").await).await?;
    for (query, foreign) in
        [("SELECT * FROM notes", true), ("SELECT * FROM leads", true), ("SELECT * FROM prices", false)]
    {
        ensure!(
            differs(plain, &open, query).await? == foreign,
            "past the seal differs: {}, which is wrong: {query}",
            !foreign
        );
    }
    let (mut again, mut noticed) = (0, 0);
    for query in equal.iter().take(AGAIN) {
        again += 1;
        noticed += u64::from(differs(plain, &open, query).await.unwrap_or(false));
    }
    for (statement, query) in PLANTED {
        for twin in plain {
            twin.batch_execute(statement).await?;
        }
        ensure!(differs(plain, sealed, query).await?, "planted, and not noticed: {statement}");
    }
    Ok((again, noticed))
}

async fn differs(plain: &[Client; 2], sealed: &Client, query: &str) -> Result<bool> {
    let mut outcome = Outcome::default();
    compare(plain, sealed, query, &mut outcome).await;
    ensure!(outcome.unstable == 0, "not the same twice: {query}");
    Ok(outcome.same == 0)
}
