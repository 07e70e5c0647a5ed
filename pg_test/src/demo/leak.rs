//! Scene: what one forgotten WHERE does to a database without Bulkhead.

use anyhow::Result;

use super::Tour;
use super::crowd::{self, Crowd};
use super::paint::number;
use super::products::{PAGE, Product};
use super::session::Row;
use super::story::{Story, count, short_id};

/// Rows of the first page that are printed.
const SHOWN: usize = 5;
const CROWD: Crowd = Crowd { connections: 20, requests: 1000, protected: false };

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, products, app, .. } = tour;
    story.scene("The leak: one forgotten WHERE");

    let shop = &products.shop;
    story.say(&format!(
        "The people of {} open the page with their latest orders. The query should have had \
         WHERE organization_id = …, but somebody forgot:",
        shop.me.name
    ));
    let rows = story.run(app, shop.latest).await?;
    let shown: Vec<Row> = rows.iter().take(SHOWN).map(|row| with_owner(row, shop)).collect();
    story.table(&["organization_id", "customer", "product", "total", "(whose it is)"], &shown);
    story.faint(&format!("… {} more", rows.len() - shown.len()));
    check(story, shop, &rows)?;

    story.say("The same slip in the other two products:");
    for product in [&products.field_service, &products.chat] {
        let rows = story.run(app, product.latest).await?;
        check(story, product, &rows)?;
    }

    story.say(&format!(
        "And with traffic: {} tenants, {} connections, {} page views, each with the same slip.",
        products.tenants(),
        CROWD.connections,
        number(CROWD.requests)
    ));
    let seen = crowd::send(database, products, CROWD).await?;
    story.claim(
        seen.foreign > 0 && seen.rows == seen.pages * PAGE as u64,
        &format!(
            "Without Bulkhead, {} of {} rows shown went to the wrong tenant",
            number(seen.foreign),
            number(seen.rows)
        ),
        "no foreign row was seen, so this demo could not tell a leak from none",
    )
}

fn check(story: &mut Story, product: &Product, rows: &[Row]) -> Result<()> {
    let foreign = rows.iter().filter(|row| row.first() != Some(&product.me.id)).count();
    story.check(
        rows.len() == PAGE && foreign > 0,
        &format!(
            "{foreign} of the {} shown to {} belong to somebody else",
            count(rows.len() as u64, "row"),
            product.me.name
        ),
        "the query without WHERE was expected to show a page with foreign rows on it",
    )
}

/// The row as it came, its uuid shortened, and whose it is.
fn with_owner(row: &Row, product: &Product) -> Row {
    let mut shown = row.clone();
    let owner = product.tenants.iter().find(|tenant| row.first() == Some(&tenant.id));
    if let Some(id) = shown.first_mut() {
        *id = short_id(id);
    }
    shown.push(owner.map_or_else(String::new, |tenant| tenant.name.clone()));
    shown
}
