//! The three products of the story, one for each type of tenant id, and their data.
//!
//! Each is what a team would have built without thinking of Bulkhead: tables, keys, a busy query on the first page.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::paint::number;
use super::progress;
use super::session::Session;
use super::story::{Story, count};

/// How many rows the query on a product's first page asks for.
pub const PAGE: usize = 50;

/// A tenant: its id as text, and what a person calls it.
#[derive(Clone)]
pub struct Tenant {
    pub id: String,
    pub name: String,
}

pub struct Products {
    pub shop: Product,
    pub field_service: Product,
    pub chat: Product,
}

impl Products {
    pub fn all(&self) -> [&Product; 3] {
        [&self.shop, &self.field_service, &self.chat]
    }

    pub fn tenants(&self) -> usize {
        self.all().iter().map(|product| product.tenants.len()).sum()
    }
}

pub struct Product {
    about: &'static About,
    /// The tenant who is logged in, and the one whose rows must not be seen.
    pub me: Tenant,
    pub other: Tenant,
    pub tenants: Vec<Tenant>,
    /// Rows of the table: all, and those of the tenant who is logged in.
    pub rows: u64,
    pub own_rows: u64,
}

/// What is known of a product before there is any data.
pub struct About {
    pub name: &'static str,
    /// The type of the tenant id.
    pub key: &'static str,
    /// The table that the story looks at, and its tenant column.
    pub table: &'static str,
    pub column: &'static str,
    /// The query of the first page that forgot its WHERE; the tenant's id comes first.
    pub latest: &'static str,
    /// A new row that does not say whose it is.
    pub insert: &'static str,
    /// A new row that claims to belong to `{}`.
    insert_for: &'static str,
    /// The table of the tenants, in the order in which they are taken: the first is logged in.
    tenants: &'static str,
    script: &'static str,
    counts: &'static [(&'static str, &'static str)],
}

const SHOP: About = About {
    name: "shop",
    key: "uuid",
    table: "orders",
    column: "organization_id",
    latest: "SELECT organization_id, customer, product, total\n  FROM orders ORDER BY placed_at DESC LIMIT 50",
    insert: "INSERT INTO orders (customer, product, total)\nVALUES ('Zoe Z.', 'item 1', 9.90)",
    insert_for: "INSERT INTO orders (organization_id, customer, product, total)\nVALUES ('{}', 'Zoe Z.', 'item 1', 9.90)",
    tenants: "SELECT id, name FROM organizations ORDER BY id",
    script: include_str!("data/shop.sql"),
    counts: &[("organizations", "organizations"), ("inventory", "stock items"), ("orders", "orders")],
};

const FIELD_SERVICE: About = About {
    name: "field service",
    key: "text",
    table: "jobs",
    column: "company_id",
    latest: "SELECT company_id, address, task FROM jobs ORDER BY created_at DESC LIMIT 50",
    insert: "INSERT INTO jobs (address, task) VALUES ('1 Mill Street', 'leaking tap')",
    insert_for: "INSERT INTO jobs (company_id, address, task) VALUES ('{}', '1 Mill Street', 'leaking tap')",
    tenants: "SELECT id, name FROM companies ORDER BY id DESC",
    script: include_str!("data/field_service.sql"),
    counts: &[("companies", "companies"), ("jobs", "jobs"), ("service_calls", "service calls")],
};

const CHAT: About = About {
    name: "AI chat",
    key: "bigint",
    table: "messages",
    column: "workspace_id",
    latest: "SELECT workspace_id, author, body FROM messages ORDER BY sent_at DESC LIMIT 50",
    insert: "INSERT INTO messages (author, body, sent_at) VALUES ('lead', 'hello', '2026-02-28')",
    insert_for: "INSERT INTO messages (workspace_id, author, body, sent_at)\nVALUES ({}, 'lead', 'hello', '2026-02-28')",
    tenants: "SELECT id, name FROM workspaces ORDER BY id",
    script: include_str!("data/chat.sql"),
    counts: &[("workspaces", "workspaces"), ("messages", "messages")],
};

impl std::ops::Deref for Product {
    type Target = About;

    fn deref(&self) -> &About {
        self.about
    }
}

impl Product {
    /// A new row that claims to belong to the other tenant.
    pub fn insert_for_other(&self) -> String {
        self.insert_for.replace("{}", &self.other.id)
    }

    async fn read(owner: &Session, about: &'static About) -> Result<Self> {
        let rows = owner.rows(about.tenants).await?;
        let tenant = |row: &Vec<String>| match row.as_slice() {
            [id, name] => Some(Tenant { id: id.clone(), name: name.clone() }),
            _ => None,
        };
        let tenants: Vec<Tenant> = rows.iter().filter_map(tenant).collect();
        let [me, other, ..] = tenants.as_slice() else {
            anyhow::bail!("{} has too few tenants", about.name);
        };
        let (me, other) = (me.clone(), other.clone());
        let About { table, column, .. } = about;
        let rows = owner.number(&format!("SELECT count(*) FROM {table}")).await?;
        let own_rows = owner.number(&format!("SELECT count(*) FROM {table} WHERE {column} = '{}'", me.id)).await?;
        // A page of own rows is what every later check of the page expects.
        ensure!(own_rows > PAGE as u64, "{} has only {own_rows} rows in {table}", me.name);
        Ok(Self { about, me, other, tenants, rows, own_rows })
    }
}

/// Makes tables and rows as `owner`, and says how many.
pub async fn load(story: &mut Story, owner: &Session) -> Result<Products> {
    let mut lines = Vec::new();
    let mut total = 0;
    for about in [&SHOP, &FIELD_SERVICE, &CHAT] {
        let start = Instant::now();
        progress::during(owner.rows(about.script), || format!("loading the data: {}", about.name)).await?;
        let time = format!("{:.1} s", start.elapsed().as_secs_f64());
        let mut holds = Vec::new();
        for (table, what) in about.counts {
            let rows = owner.number(&format!("SELECT count(*) FROM {table}")).await?;
            total += rows;
            holds.push(format!("{} {what}", number(rows)));
        }
        lines.push(vec![about.name.to_string(), about.key.to_string(), holds.join(", "), time]);
    }
    let copies = owner.rows(include_str!("data/comparison.sql"));
    progress::during(copies, || "copying the orders, to compare with later".into()).await.context("copying orders")?;
    story.table(&["product", "tenant id", "holds", "loaded in"], &lines);
    story.check(
        total >= 100_000,
        &format!("{} are loaded, all tenants side by side", count(total, "row")),
        "fewer rows than the story is about",
    )?;
    Ok(Products {
        shop: Product::read(owner, &SHOP).await?,
        field_service: Product::read(owner, &FIELD_SERVICE).await?,
        chat: Product::read(owner, &CHAT).await?,
    })
}
