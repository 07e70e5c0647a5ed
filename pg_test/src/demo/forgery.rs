//! Scene: an injection forges the tenant inside a query.
//!
//! First against the policy that teams write by hand, where it works, so that it is seen to be a real attack.

use anyhow::{Result, ensure};

use super::Tour;
use super::products::Product;
use super::session::{Row, Session};
use super::story::{Story, count};

/// Where a policy finds the tenant, and the table it stands on.
struct Guarded {
    setting: &'static str,
    table: &'static str,
}

const BY_HAND: Guarded = Guarded { setting: "app.tenant", table: "orders_by_hand" };
const BULKHEAD: Guarded = Guarded { setting: "bulkhead.tenant_context", table: "orders" };

/// What an attacker types into the search box, with the setting and the tenant to forge.
struct Attack {
    name: &'static str,
    input: fn(&Guarded, &str) -> String,
}

const ATTACKS: [Attack; 2] = [
    Attack {
        name: "a UNION that changes the tenant and then reads",
        input: |guarded, victim| {
            format!(
                "none'\n UNION ALL SELECT set_config('{}', '{victim}', true)::uuid, ''\n \
                 UNION ALL SELECT organization_id, customer FROM {} --",
                guarded.setting, guarded.table
            )
        },
    },
    Attack {
        name: "a condition that changes the tenant between two rows",
        input: |guarded, victim| {
            format!("none'\n    OR set_config('{}', '{victim}', true) IS NOT NULL --", guarded.setting)
        },
    },
];

impl Guarded {
    /// The application's statement, with the tenant set as it should be and the input pasted in as it should not be.
    fn search(&self, tenant: &str, input: &str) -> String {
        format!(
            "BEGIN;\nSET LOCAL {} = '{tenant}';\nSELECT organization_id, customer FROM {}\n WHERE product = '{input}'",
            self.setting, self.table
        )
    }
}

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    let shop = &products.shop;
    story.scene("A forged tenant");
    story.say(&format!(
        "Row level security written by hand reads the tenant from a setting, and any query may change a setting. \
         {} is logged in, and the search box pastes what is typed into the SQL. The attacker wants the customers of {}.",
        shop.me.name, shop.other.name
    ));
    story.aside("The policy by hand: USING (organization_id = current_setting('app.tenant', true)::uuid)");
    for (i, attack) in ATTACKS.iter().enumerate() {
        story.say(&format!("{}. By {}:", i + 1, attack.name));
        by_hand(story, app, shop, attack).await?;
        against_bulkhead(story, app, shop, attack).await?;
    }
    between_requests(story, app, shop).await?;
    limits(story, app, shop).await
}

fn stolen(rows: &[Row], shop: &Product) -> u64 {
    // The row of set_config itself holds the victim's id too, but no customer.
    let is_stolen = |row: &&Row| row.first() == Some(&shop.other.id) && row.last().is_some_and(|text| !text.is_empty());
    rows.iter().filter(is_stolen).count() as u64
}

async fn by_hand(story: &mut Story, app: &Session, shop: &Product, attack: &Attack) -> Result<()> {
    let honest = BY_HAND.search(&shop.me.id, "item 1");
    ensure!(stolen(&app.rows(&honest).await?, shop) == 0, "the policy by hand does not even filter an honest search");
    app.rows("ROLLBACK").await?;

    let sql = BY_HAND.search(&shop.me.id, &(attack.input)(&BY_HAND, &shop.other.id));
    let rows = story.run(app, &sql).await?;
    app.rows("ROLLBACK").await?;
    let stolen = stolen(&rows, shop);
    story.check(
        stolen > 0,
        &format!("By hand: {} of {} stolen", count(stolen, "customer row"), shop.other.name),
        "the attack does not work on the policy by hand, so its refusal would prove nothing",
    )?;
    story.gap();
    Ok(())
}

async fn against_bulkhead(story: &mut Story, app: &Session, shop: &Product, attack: &Attack) -> Result<()> {
    let sql = BULKHEAD.search(&shop.me.id, &(attack.input)(&BULKHEAD, &shop.other.id));
    let error = story.refused(app, &sql).await?;
    story.claim(
        is_about_the_switch(&error),
        &format!("With Bulkhead, refused: {}", attack.name),
        &format!("it was refused for another reason: {error}"),
    )?;
    story.gap();
    Ok(())
}

fn is_about_the_switch(error: &tokio_postgres::error::DbError) -> bool {
    error.message().contains("tenant of this transaction cannot be changed")
}

/// An application that sets its tenant for the session: the same injection, before any transaction has a tenant.
async fn between_requests(story: &mut Story, app: &Session, shop: &Product) -> Result<()> {
    app.rows(&format!("SET bulkhead.tenant_context = '{}'", shop.me.id)).await?;
    let union = format!(
        "SELECT set_config('bulkhead.tenant_context', '{}', false), NULL UNION ALL SELECT customer, product FROM orders",
        shop.other.id
    );
    let error = app.refused(&union).await?;
    app.rows("RESET bulkhead.tenant_context").await?;
    story.check(
        is_about_the_switch(&error),
        "Refused as well where the tenant was set for the whole session",
        &format!("it was refused for another reason: {error}"),
    )?;
    story.gap();
    Ok(())
}

/// What locked mode does not promise; said here because a visitor has to know it.
async fn limits(story: &mut Story, app: &Session, shop: &Product) -> Result<()> {
    let new_transaction = format!(
        "BEGIN; SET LOCAL bulkhead.tenant_context = '{}'; COMMIT; \
         BEGIN; SET LOCAL bulkhead.tenant_context = '{}'; SELECT count(*) FROM orders; COMMIT",
        shop.me.id, shop.other.id
    );
    let reached = app.number(&new_transaction).await?;
    ensure!(reached > 0, "the limit that this scene tells of is none: update its text");
    story.aside(
        "Its limit: this is one transaction, one tenant. An injection that can end the transaction and begin another \
         (COMMIT; …) is not stopped by it. Bound parameters leave no room for that.",
    );
    Ok(())
}
