//! Scene: one call for each table, and the same queries again.

use anyhow::Result;

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
    ("jobs", "company_id"),
    ("service_calls", "company_id"),
    ("companies", "id"),
    ("messages", "workspace_id"),
    ("workspaces", "id"),
];

pub async fn play(tour: &mut Tour) -> Result<()> {
    tour.story.scene("One call for each table");
    protect(&mut tour.story, &tour.owner).await?;
    no_tenant(tour).await?;
    own_rows_only(tour).await?;
    foreign_writes(tour).await?;
    careless_writes(tour).await?;
    partitions(tour).await?;
    superuser(tour).await?;
    bypass(tour).await
}

async fn protect(story: &mut Story, owner: &Session) -> Result<()> {
    story.say("The owner of the tables calls one function for each of them. It says what it did:");
    let calls = TABLES.map(|(table, column)| format!("SELECT bulkhead.protect('{table}', '{column}')"));
    let (first, others) = (&calls[..1], &calls[1..]);
    for call in first {
        for line in story.run(owner, call).await?.iter().flatten() {
            story.faint(line);
        }
    }
    story.statement(owner.role(), &others.join(";\n"));
    let mut ran = 0;
    for call in others {
        ran += owner.rows(call).await?.len();
    }
    story.faint(&format!("{ran} statements of the same kind"));

    let listed = owner.number("SELECT count(*) FROM bulkhead.protected_tables").await?;
    let mut again = 0;
    for call in &calls {
        again += owner.rows(call).await?.len();
    }
    story.check(
        listed > TABLES.len() as u64 && again == 0,
        &format!("{listed} tables are protected, partitions included; a second call finds nothing left to do"),
        &format!("{listed} tables are listed as protected, and calling again ran {again} statements"),
    )
}

async fn no_tenant(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    story.say("Now the very same query, still without its WHERE. First from somebody who does not say for whom:");
    let mut refused = 0;
    for (i, product) in products.all().into_iter().enumerate() {
        let error = match i {
            0 => story.refused(app, product.latest).await?,
            _ => app.refused(product.latest).await?,
        };
        let hint = error.hint().unwrap_or_default();
        let is_helpful = error.message().contains(product.table) && hint.contains("SET LOCAL bulkhead.tenant_context");
        refused += usize::from(is_helpful);
    }
    story.claim(
        refused == products.all().len(),
        "Without a tenant: an error that says what to do, for uuid, text and bigint tenants",
        "an error does not name the table, or its hint does not say what to do",
    )
}

async fn own_rows_only(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    story.say("Then as it should be: each transaction says for whom it works.");
    let mut exact = 0;
    for product in products.all() {
        let me = &product.me;
        let transaction = as_tenant(product, &format!("{};\nCOMMIT", product.latest));
        let page = story.run(app, &transaction).await?;
        let visible =
            app.number(&as_tenant(product, &format!("SELECT count(*) FROM {}; COMMIT", product.table))).await?;
        let foreign = page.iter().filter(|row| row.first() != Some(&me.id)).count();
        let holds = page.len() == PAGE && foreign == 0 && visible == product.own_rows;
        story.check(
            holds,
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
        exact += usize::from(holds);
    }
    story.claim(
        exact == products.all().len(),
        "With a tenant: all rows of that tenant and of nobody else, still without a WHERE",
        "that held for some of the products only",
    )
}

async fn foreign_writes(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    let shop = &products.shop;
    story.say(&format!("Writing, as {}. First into the shop of {}:", shop.me.name, shop.other.name));
    let mut refused = 0;
    for (i, product) in products.all().into_iter().enumerate() {
        let insert = as_tenant(product, &product.insert_for_other());
        let error = match i {
            0 => story.refused(app, &insert).await?,
            _ => app.refused(&insert).await?,
        };
        refused +=
            usize::from(error.message().contains("row-level security") && error.message().contains(product.table));
    }
    story.claim(
        refused == products.all().len(),
        "A new row for another tenant is refused, in all three products",
        "an insert was refused for another reason",
    )
}

async fn careless_writes(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    let shop = &products.shop;
    story.say("Then an UPDATE and a DELETE that forgot their WHERE, too:");
    let mut reached = Vec::new();
    for (verb, sql) in [("UPDATE", "UPDATE orders SET status = 'cancelled'"), ("DELETE", "DELETE FROM orders")] {
        let begin = as_tenant(shop, sql);
        story.statement(app.role(), &format!("{begin};\nROLLBACK"));
        let rows = app.changed(&begin).await?;
        app.rows("ROLLBACK").await?;
        story.faint(&format!("{verb} {rows}"));
        reached.push(rows);
    }
    story.claim(
        reached.iter().all(|rows| *rows == shop.own_rows),
        &format!(
            "A careless UPDATE or DELETE reaches their own {} orders, not all {}",
            number(shop.own_rows),
            number(shop.rows)
        ),
        &format!("{reached:?} rows were reached, {} are theirs", shop.own_rows),
    )?;

    let mut theirs = 0;
    for product in products.all() {
        let insert = format!("{} RETURNING {}", product.insert, product.column);
        theirs += usize::from(app.value(&as_tenant(product, &insert)).await? == product.me.id);
        app.rows("ROLLBACK").await?;
    }
    story.check(
        theirs == products.all().len(),
        "And an INSERT that does not say whose row it is makes it theirs",
        "a row got another tenant",
    )
}

async fn partitions(tour: &mut Tour) -> Result<()> {
    let Tour { story, owner, app, .. } = tour;
    story.say("Next month somebody adds a partition, and somebody else reads it directly:");
    let partition = "CREATE TABLE messages_2026_03 PARTITION OF messages\n  \
                     FOR VALUES FROM ('2026-03-01+00') TO ('2026-04-01+00')";
    story.run(owner, partition).await?;
    let error = story.refused_again(app, "SELECT count(*) FROM messages_2026_03").await?;
    story.claim(
        error.message().contains("messages_2026_03"),
        "A partition that is added later is protected from the start",
        &format!("it was refused for another reason: {error}"),
    )
}

/// The roles that row level security does not bind: the connections where tenants leak in other products.
async fn superuser(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, products, .. } = tour;
    let shop = &products.shop;
    story.say(
        "Row level security does not bind superusers, nor the service's role with BYPASSRLS. The worker with the admin \
         connection is where tenants usually leak. Bulkhead seals the tables for those, too:",
    );
    let mut refused = 0;
    let mut exact = 0;
    for role in ["postgres", "svc"] {
        let session = Session::open(database, role).await?;
        let error = match role {
            "postgres" => story.refused(&session, "SELECT count(*) FROM orders").await?,
            _ => session.refused("SELECT count(*) FROM orders").await?,
        };
        refused += usize::from(error.hint().unwrap_or_default().contains("bulkhead.begin_bypass"));
        let own = as_tenant(shop, "SELECT count(*) FROM orders;\nCOMMIT");
        let seen = match role {
            "postgres" => story.run(&session, &own).await?,
            _ => session.rows(&own).await?,
        };
        let seen = seen.into_iter().flatten().next().unwrap_or_default();
        if role == "postgres" {
            story.output(&seen);
        }
        exact += usize::from(seen == shop.own_rows.to_string());
    }
    story.claim(
        refused == 2 && exact == 2,
        "The superuser and the BYPASSRLS role see one tenant's rows, too, and nothing without a tenant",
        &format!("{refused} of 2 roles were refused without a tenant, {exact} of 2 saw just the tenant's rows"),
    )
}

/// Work for all tenants: a backup, the invoices of the month.
async fn bypass(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, products, app, .. } = tour;
    story.say("Some work is for all tenants. Whoever was granted it says why, and that is written down:");
    let admin = Session::open(database, "postgres").await?;
    let seen = story
        .run(&admin, "BEGIN;\nSELECT bulkhead.begin_bypass('monthly report');\nSELECT count(*) FROM orders;\nCOMMIT")
        .await?;
    let seen = seen.into_iter().flatten().next_back().unwrap_or_default();
    story.output(&seen);
    let log = story.run(&admin, "SELECT role, reason, client, at::timestamp(0) FROM bulkhead.bypass_log").await?;
    story.table(&["role", "reason", "client", "at"], &log);
    let recorded = matches!(log.as_slice(), [row] if row.get(1).is_some_and(|reason| reason == "monthly report"));
    let over = admin.refused("SELECT count(*) FROM orders").await?;
    let not_for_all = app.refused("SELECT bulkhead.begin_bypass('curious')").await?;
    story.claim(
        recorded
            && seen == products.shop.rows.to_string()
            && over.message().contains("orders")
            && not_for_all.message().contains("begin_bypass"),
        "The way past it needs a right and a reason, is recorded, and ends with its transaction",
        &format!("{seen} of {} orders were counted; recorded: {log:?}; afterwards: {over}", products.shop.rows),
    )
}

fn as_tenant(product: &Product, sql: &str) -> String {
    format!("BEGIN;\nSET LOCAL bulkhead.tenant_context = '{}';\n{sql}", product.me.id)
}
