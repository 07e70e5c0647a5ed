//! Scene: an injection forges the tenant inside a query.
//!
//! First against the policies that teams write by hand, where it works, so that it is seen to be a real attack.

use anyhow::{Result, ensure};
use tokio_postgres::error::DbError;

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
const BY_SUBSELECT: Guarded = Guarded { setting: "app.tenant", table: "orders_by_subselect" };
const BULKHEAD: Guarded = Guarded { setting: "bulkhead.tenant_context", table: "orders" };

/// What an attacker types into the search box, with the setting and the tenant to forge.
type Attack = fn(&Guarded, &str) -> String;

fn union(guarded: &Guarded, victim: &str) -> String {
    format!(
        "none'\n UNION ALL SELECT set_config('{}', '{victim}', true)::uuid, ''\n \
         UNION ALL SELECT organization_id, customer FROM {} --",
        guarded.setting, guarded.table
    )
}

fn condition(guarded: &Guarded, victim: &str) -> String {
    format!("none'\n    OR set_config('{}', '{victim}', true) IS NOT NULL --", guarded.setting)
}

impl Guarded {
    /// The application's statement: the input is pasted in, as it should not be.
    fn search(&self, input: &str) -> String {
        format!("SELECT organization_id, customer FROM {}\n WHERE product = '{input}'", self.table)
    }

    /// The whole transaction: the tenant is set, as it should be.
    fn transaction(&self, tenant: &str, input: &str) -> String {
        format!("BEGIN;\nSET LOCAL {} = '{tenant}';\n{}", self.setting, self.search(input))
    }

    /// Runs an attack on a policy by hand; the victim's rows that it yields.
    async fn stolen(&self, app: &Session, shop: &Product, attack: Attack) -> Result<u64> {
        let honest = app.rows(&self.transaction(&shop.me.id, "item 1")).await?;
        app.rows("ROLLBACK").await?;
        let own = |row: &Row| row.first() == Some(&shop.me.id);
        ensure!(!honest.is_empty() && honest.iter().all(own), "the policy of {} fails an honest search", self.table);

        let rows = app.rows(&self.transaction(&shop.me.id, &attack(self, &shop.other.id))).await?;
        app.rows("ROLLBACK").await?;
        // The row of set_config itself holds the victim's id too, but no customer.
        let is_stolen = |row: &&Row| row.first() == Some(&shop.other.id) && row.last().is_some_and(|c| !c.is_empty());
        Ok(rows.iter().filter(is_stolen).count() as u64)
    }
}

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, app, .. } = tour;
    let shop = &products.shop;
    story.scene("A forged tenant");
    story.say(&format!(
        "Policies written by hand read the tenant from a setting, and any query may change a setting. {} is logged in, \
         and the search box of the shop pastes what is typed into the SQL. Somebody types more than a word, because \
         they want the customers of {}.",
        shop.me.name, shop.other.name
    ));
    story.say("The policy by hand is organization_id = current_setting('app.tenant', true)::uuid. Everything from none' on was typed:");
    by_hand(story, app, shop, union).await?;
    let stolen = BY_SUBSELECT.stolen(app, shop, union).await?;
    story.check(
        stolen > 0,
        &format!("The same if the policy says (SELECT current_setting(…)::uuid): {} stolen", count(stolen, "row")),
        "the attack does not work there",
    )?;
    story.say("The same attack, with the setting that Bulkhead reads:");
    let error = story.refused(app, &BULKHEAD.transaction(&shop.me.id, &union(&BULKHEAD, &shop.other.id))).await?;
    story.claim(
        is_about_the_switch(&error),
        "A UNION that forges the tenant and then reads: refused",
        &format!("it was refused for another reason: {error}"),
    )?;

    story.say("The forgery can hide in a condition, too:");
    by_hand(story, app, shop, condition).await?;
    let forged = BULKHEAD.transaction(&shop.me.id, &condition(&BULKHEAD, &shop.other.id));
    let error = story.refused_again(app, &forged).await?;
    story.claim(
        is_about_the_switch(&error),
        "A condition that forges the tenant between two rows: refused",
        &format!("it was refused for another reason: {error}"),
    )?;
    whole_session(story, app, shop).await?;
    mode(story, app).await?;
    limits(story, app, shop).await
}

async fn by_hand(story: &mut Story, app: &Session, shop: &Product, attack: Attack) -> Result<()> {
    story.statement(app.role(), &BY_HAND.transaction(&shop.me.id, &attack(&BY_HAND, &shop.other.id)));
    let stolen = BY_HAND.stolen(app, shop, attack).await?;
    story.check(
        stolen > 0,
        &format!("By hand: {} of {} stolen", count(stolen, "row"), shop.other.name),
        "the attack does not work on the policy by hand, so its refusal would prove nothing",
    )
}

fn is_about_the_switch(error: &DbError) -> bool {
    error.message().contains("tenant of this transaction cannot be changed")
}

/// An application that sets its tenant for the session: no transaction has named one yet.
async fn whole_session(story: &mut Story, app: &Session, shop: &Product) -> Result<()> {
    story.say("And on a connection that set its tenant once, for the whole session:");
    story.run(app, &format!("SET bulkhead.tenant_context = '{}'", shop.me.id)).await?;
    let error = story.refused_again(app, &BULKHEAD.search(&union(&BULKHEAD, &shop.other.id))).await?;
    app.rows("RESET bulkhead.tenant_context").await?;
    story.check(is_about_the_switch(&error), "Refused as well", &format!("it was refused for another reason: {error}"))
}

/// The mode that refuses all this is the default, and the application cannot leave it.
async fn mode(story: &mut Story, app: &Session) -> Result<()> {
    let mode = app.value("SHOW bulkhead.context_mode").await?;
    let error = app.refused("SET bulkhead.context_mode = open").await?;
    story.check(
        mode == "locked" && error.message().contains("bulkhead.context_mode"),
        "Nothing was switched on for this: bulkhead.context_mode is locked by default, and the application cannot unlock it",
        &format!("the mode is {mode}, and changing it says: {error}"),
    )
}

/// What locked mode does not promise; said here because a visitor has to know it.
async fn limits(story: &mut Story, app: &Session, shop: &Product) -> Result<()> {
    let two_transactions = format!(
        "BEGIN; SET LOCAL bulkhead.tenant_context = '{}'; COMMIT; \
         BEGIN; SET LOCAL bulkhead.tenant_context = '{}'; SELECT count(*) FROM orders; COMMIT",
        shop.me.id, shop.other.id
    );
    let reached = app.number(&two_transactions).await?;
    ensure!(reached > 0, "a second transaction cannot name another tenant any more: update the text of this limit");
    story.aside(
        "The limit of locked mode: one transaction, one tenant. It does not stop an injection that can end the \
         transaction and begin another (COMMIT; BEGIN; …). Send values as parameters, and there is no room for that.",
    );
    Ok(())
}
