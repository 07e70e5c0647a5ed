//! Scene: many tenants over few connections, with failures in between.

use anyhow::Result;

use super::Tour;
use super::crowd::{self, Crowd};
use super::paint::number;
use super::products::PAGE;

const CROWD: Crowd = Crowd { connections: 20, requests: 5000, protected: true };

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, products, .. } = tour;
    let tenants = products.tenants();
    story.scene("Everybody at once");
    story.say(&format!(
        "The traffic of the first scene again, and more of it: {tenants} tenants of all three products take turns on \
         {} connections, {} requests, and still forget their WHERE. Some write, some fail in the middle, some do not \
         even say who they are. The client compares each row that comes back with the tenant who asked.",
        CROWD.connections,
        number(CROWD.requests),
    ));
    story.statement(
        "app",
        "BEGIN;\nSELECT bulkhead.set_tenant($1);\nSELECT … FROM orders, jobs or messages, as above … LIMIT 50;\nCOMMIT",
    );
    let seen = crowd::send(database, products, CROWD).await?;
    story.table(
        &["pages read", "rows read", "rows written", "failed midway", "without a tenant", "rows of others"],
        &[[seen.pages, seen.rows, seen.written, seen.failed, seen.forgot, seen.foreign].map(number).to_vec()],
    );
    story.claim(
        seen.foreign == 0,
        &format!(
            "With Bulkhead, {} rows went to {} tenants over {} connections: 0 to the wrong one",
            number(seen.rows),
            seen.tenants.len(),
            CROWD.connections
        ),
        &format!("{} rows of other tenants were seen", seen.foreign),
    )?;
    story.check(
        seen.rows == seen.pages * PAGE as u64 && seen.tenants.len() == tenants,
        &format!("Nobody was shown too little: {PAGE} rows on every page, for all {tenants} tenants"),
        "some pages were not full, or some tenants were never served",
    )?;
    story.check(
        seen.forgot > 0 && seen.refused == seen.forgot,
        &format!(
            "All {} requests without a tenant were refused; none went on with the tenant before it",
            number(seen.forgot)
        ),
        &format!("{} of {} were refused", seen.refused, seen.forgot),
    )
}
