//! Scene: one call for each table, and the same queries again.

use anyhow::{Result, ensure};

use super::Tour;
use super::paint::number;
use super::products::{PAGE, Product};
use super::session::Session;
use super::story::{Story, count};

/// Every table that holds rows of tenants, and its tenant column. The tenants' own tables are among them.
const TABLES: [(&str, &str); 8] = [
    ("orders", "organization_id"),
    ("inventory", "organization_id"),
    ("organizations", "id"),
    ("companies", "id"),
    ("jobs", "company_id"),
    ("service_calls", "company_id"),
    ("workspaces", "id"),
    ("messages", "workspace_id"),
];

pub async fn play(tour: &mut Tour) -> Result<()> {
    tour.story.scene("One call for each table");
    protect(&mut tour.story, &tour.owner).await?;
    reads(tour).await?;
    writes(tour).await?;
    partitions(tour).await
}

async fn protect(story: &mut Story, owner: &Session) -> Result<()> {
    story.say("The owner of the tables calls one function for each of them. It says what it did:");
    for (i, (table, column)) in TABLES.into_iter().enumerate() {
        let done = story.run(owner, &format!("SELECT bulkhead.protect('{table}', '{column}')")).await?;
        ensure!(!done.is_empty(), "protect('{table}') says that it did nothing");
        if i > 0 {
            story.faint(&format!("{} like these", count(done.len() as u64, "statement")));
            continue;
        }
        for line in done.iter().flatten() {
            story.faint(line);
        }
    }
    story.gap();
    let listed = owner.number("SELECT count(*) FROM bulkhead.protected_tables").await?;
    let mut again = 0;
    for (table, column) in TABLES {
        again += owner.rows(&format!("SELECT bulkhead.protect('{table}', '{column}')")).await?.len();
    }
    story.check(
        listed > TABLES.len() as u64 && again == 0,
        &format!("{listed} tables are protected, partitions included; a second call finds nothing left to do"),
        &format!("{listed} tables are listed as protected, and calling again ran {again} statements"),
    )?;
    story.gap();
    Ok(())
}

async fn reads(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    story.say("Now the very same query, still without its WHERE. First by somebody who also forgot to say for whom:");
    let shop = &products.shop;
    let error = story.refused(app, shop.latest).await?;
    let hint = error.hint().unwrap_or_default();
    story.check(
        error.message().contains("orders") && hint.contains("SET LOCAL bulkhead.tenant_context"),
        "Refused, with the name of the table and what to do",
        "the error does not name the table, or its hint does not say what to do",
    )?;
    for product in [&products.field_service, &products.chat] {
        app.refused(product.latest).await?;
    }
    story.claim(
        true,
        "A query that names no tenant is an error; for uuid, text and bigint tenants alike",
        "a query without a tenant was not refused",
    )?;
    story.gap();

    story.say("Then as it should be: each transaction says for whom it works.");
    for product in products.all() {
        own_rows_only(story, app, product).await?;
    }
    story.claim(
        true,
        "With a tenant, the query that forgot its WHERE shows this tenant's rows: all of them, and no others",
        "a page showed rows of others",
    )?;
    story.gap();
    Ok(())
}

/// The transaction of one tenant: its page, and the number of all rows that it can see.
async fn own_rows_only(story: &mut Story, app: &Session, product: &Product) -> Result<()> {
    let me = &product.me;
    let begin = format!("BEGIN;\nSET LOCAL bulkhead.tenant_context = '{}'", me.id);
    story.statement(app.role(), &format!("{begin};\n{};\nCOMMIT", product.latest));
    let page = app.rows(&format!("{begin};\n{};\nCOMMIT", product.latest)).await?;
    let visible = app.number(&format!("{begin}; SELECT count(*) FROM {}; COMMIT", product.table)).await?;
    let foreign = page.iter().filter(|row| row.first() != Some(&me.id)).count();
    story.check(
        page.len() == PAGE && foreign == 0 && visible == product.own_rows,
        &format!(
            "{}: {} on the page, {foreign} of others; {} of {} {} can be seen",
            me.name,
            count(page.len() as u64, "row"),
            number(visible),
            number(product.rows),
            product.table
        ),
        &format!("{foreign} rows of others on the page; {visible} rows visible, {} are theirs", product.own_rows),
    )?;
    story.gap();
    Ok(())
}

async fn writes(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    let shop = &products.shop;
    story.say(&format!("Writing, as {}. First into the shop of {}:", shop.me.name, shop.other.name));
    for (i, product) in products.all().into_iter().enumerate() {
        let sql = as_tenant(product, &product.insert_for_other());
        let error = if i == 0 { story.refused(app, &sql).await? } else { app.refused(&sql).await? };
        ensure!(error.message().contains(product.table), "refused, but not for {}: {error}", product.table);
    }
    story.claim(true, "A row for another tenant is refused, in all three products", "it was written")?;
    story.gap();

    story.say("Then an UPDATE and a DELETE that forgot their WHERE, too:");
    let update = as_tenant(shop, "UPDATE orders SET status = 'cancelled'");
    story.statement(app.role(), &update);
    let changed = app.changed(&update).await?;
    app.rows("ROLLBACK").await?;
    story.faint(&format!("UPDATE {changed}"));
    let delete = as_tenant(shop, "DELETE FROM orders");
    story.statement(app.role(), &delete);
    let deleted = app.changed(&delete).await?;
    app.rows("ROLLBACK").await?;
    story.faint(&format!("DELETE {deleted}"));
    story.gap();
    story.check(
        changed == shop.own_rows && deleted == shop.own_rows,
        &format!("Each reached their own {} orders, not all {} (both rolled back)", number(changed), number(shop.rows)),
        &format!("{changed} rows were updated and {deleted} deleted, {} are theirs", shop.own_rows),
    )?;

    let insert = format!("{} RETURNING organization_id", shop.insert);
    let given = app.value(&as_tenant(shop, &insert)).await?;
    app.rows("ROLLBACK").await?;
    story.check(
        given == shop.me.id,
        "A new row that does not say whose it is becomes theirs",
        &format!("it became {given:?}"),
    )?;
    story.gap();
    Ok(())
}

fn as_tenant(product: &Product, sql: &str) -> String {
    format!("BEGIN;\nSET LOCAL bulkhead.tenant_context = '{}';\n{sql}", product.me.id)
}

async fn partitions(tour: &mut Tour) -> Result<()> {
    let Tour { story, owner, app, .. } = tour;
    story.say("Next month somebody adds a partition, and somebody else reads it directly:");
    story
        .run(
            owner,
            "CREATE TABLE messages_2026_03 PARTITION OF messages\n  FOR VALUES FROM ('2026-03-01+00') TO ('2026-04-01+00')",
        )
        .await?;
    let error = story.refused(app, "SELECT count(*) FROM messages_2026_03").await?;
    story.claim(
        error.message().contains("messages_2026_03"),
        "Partitions that come later are protected from their first moment",
        &format!("it was refused for another reason: {error}"),
    )
}
