//! Other sessions that write meanwhile, for A and for B, so that statements wait for rows and look at them again. Values are bound: no query text holds a canary.

use std::time::Duration;

use anyhow::Result;
use pg_test::Database;

use crate::canary::{A, B};
use crate::ground;

/// Ends the writing when dropped.
pub struct Traffic(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub async fn start(db: &Database) -> Result<Traffic> {
    let mut writers = Vec::new();
    for tenant in [A[0], B[0]] {
        let session = ground::acting(db, "app", tenant).await?;
        writers.push(tokio::spawn(async move {
            for number in 0_i64.. {
                let id = 1 + number % 12;
                for statement in
                    ["UPDATE accounts SET code = code WHERE id = $1", "UPDATE notes SET stamp = stamp WHERE id = $1"]
                {
                    // A random statement may be in the way; the next one is tried.
                    session.execute(statement, &[&id]).await.ok();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    Ok(Traffic(writers))
}
