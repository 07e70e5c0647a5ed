//! Every promise, asked of the server: what was acknowledged is there as it was told, and nothing happened twice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use tokio_postgres::SimpleQueryMessage;

use super::ground::{FEW, STOCK};
use super::ledger::{Ledger, Name};
use super::session::Rows;
use super::{TENANTS, kills};
use crate::cluster::PAST_THE_SEAL;
use crate::{Client, Database};

/// Names in one statement.
const CHUNK: usize = 2_000;

/// After the last kill: what was queued is decided, what waited for its score has it, and everything is looked at.
pub async fn at_the_end(db: &Database, ledger: &Ledger) -> Result<()> {
    let admin = kills::session(&db.config("postgres")).await?;
    rows(&admin, "CALL bulkhead.drain_inventory('stock')").await?;
    rows(&admin, "CALL bulkhead.score_pending('leads')").await?;
    rows(&admin, "CALL bulkhead.maintain()").await?;
    all(db, ledger).await?;
    let admin = past_the_seal(db).await?;
    let open = "SELECT count(*) FROM leads WHERE status <> 'scored'
      UNION ALL SELECT count(*) FROM (TABLE bulkhead.inventory_queue_0 UNION ALL TABLE bulkhead.inventory_queue_1
                                      UNION ALL TABLE bulkhead.inventory_queue_2 UNION ALL TABLE bulkhead.inventory_queue_3) q
      UNION ALL SELECT count(*) FROM bulkhead.inventory_poison
      UNION ALL SELECT count(*) FROM ticks WHERE at < '2020-01-01'";
    let open = rows(&admin, open).await?.concat();
    if open.iter().any(|count| count != "0") {
        ledger.fault(format!("at the end there are leads without a score, queued, poisoned, not archived: {open:?}"));
    }
    Ok(())
}

/// Everything that was acknowledged, and everything there is.
pub async fn all(db: &Database, ledger: &Ledger) -> Result<()> {
    let admin = past_the_seal(db).await?;
    nothing_twice(&admin, ledger).await?;
    counters(&admin, ledger).await?;
    leads(&admin, ledger).await?;
    archive(&admin, ledger).await?;
    queued(&admin, ledger).await?;
    for tenant in TENANTS {
        let app = kills::session(&db.config("app")).await?;
        rows(&app, &format!("SET bulkhead.tenant_context = '{tenant}'")).await?;
        told(&app, tenant, ledger).await?;
    }
    Ok(())
}

/// A name, and what is promised of it.
type Checked = (String, String);

async fn past_the_seal(db: &Database) -> Result<Client> {
    let mut config = db.config("postgres");
    config.options(PAST_THE_SEAL);
    kills::session(&config).await
}

async fn rows(client: &Client, sql: &str) -> Result<Rows> {
    let messages = client.simple_query(sql).await.with_context(|| sql.chars().take(200).collect::<String>())?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_string()).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn list(names: &[Checked]) -> String {
    let quoted: Vec<String> = names.iter().map(|(name, _)| format!("'{}'", name.replace('\'', "''"))).collect();
    format!("ARRAY[{}]::text[]", quoted.join(","))
}

/// What is left and what was sold make what there was; each line of an order and each piece of work is there once. One snapshot: the worker goes on.
async fn nothing_twice(admin: &Client, ledger: &Ledger) -> Result<()> {
    let balance = format!(
        "SELECT s.tenant_id, s.sku, s.pieces, coalesce(v.sold, 0) FROM stock s LEFT JOIN
           (SELECT tenant, item, sum(quantity) AS sold FROM bulkhead.order_verdict WHERE verdict = 'a' AND line > 0 GROUP BY 1, 2) v
           ON (v.tenant, v.item) = (s.tenant_id, s.sku)
         WHERE s.pieces + coalesce(v.sold, 0) <> CASE s.sku WHEN 'few' THEN {FEW} ELSE {STOCK} END"
    );
    for row in rows(admin, &balance).await? {
        ledger.fault(format!("stock and sales do not balance: {row:?}"));
    }
    for (what, sql) in [
        (
            "an order was decided twice",
            "SELECT tenant, order_id, line FROM bulkhead.order_verdict GROUP BY 1, 2, 3 HAVING count(*) > 1",
        ),
        ("work was done twice", "SELECT tenant_id, key FROM done GROUP BY 1, 2 HAVING count(*) > 1"),
        ("a key is there twice", "SELECT tenant, key FROM bulkhead.idempotency_key GROUP BY 1, 2 HAVING count(*) > 1"),
        ("a partition was archived twice", "SELECT id FROM archive GROUP BY 1 HAVING count(*) > 1"),
        ("a lead was scored twice", "SELECT tenant_id, id, status, writes FROM leads WHERE writes > 1"),
    ] {
        for row in rows(admin, sql).await?.iter().take(10) {
            ledger.fault(format!("{what}: {row:?}"));
        }
    }
    Ok(())
}

async fn counters(admin: &Client, ledger: &Ledger) -> Result<()> {
    let counted = rows(admin, "SELECT tenant_id, n FROM counters").await?;
    let added = ledger.book().added.clone();
    for (tenant, (acknowledged, unknown)) in added {
        let n: i64 = counted.iter().find(|row| row[0] == tenant).map(|row| row[1].parse()).transpose()?.unwrap_or(-1);
        if n < acknowledged || n > acknowledged + unknown {
            ledger.fault(format!("{tenant} counted {n}; {acknowledged} were acknowledged, {unknown} more may be"));
        }
    }
    Ok(())
}

/// A lead is there; it has the score that its document says, or waits for it.
async fn leads(admin: &Client, ledger: &Ledger) -> Result<()> {
    let wrong = "SELECT tenant_id, id, status, score FROM leads WHERE NOT coalesce(
        status = 'pending_score' AND score IS NULL OR status = 'scored' AND score = (document->>'n')::numeric, false) LIMIT 10";
    for row in rows(admin, wrong).await? {
        ledger.fault(format!("a lead has a wrong score: {row:?}"));
    }
    let there = rows(admin, "SELECT tenant_id, id FROM leads").await?;
    let promised = ledger.book().leads.clone();
    missing("a lead", &promised, &there, ledger);
    Ok(())
}

fn missing(what: &str, promised: &[Name], there: &Rows, ledger: &Ledger) {
    let there: BTreeSet<(&str, &str)> = there.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    for (tenant, name) in promised.iter().filter(|(tenant, name)| !there.contains(&(tenant, name.as_str()))) {
        ledger.fault(format!("{what} is lost: {tenant} {name}"));
    }
}

/// A row of a partition that expires is in the table or in the archive.
async fn archive(admin: &Client, ledger: &Ledger) -> Result<()> {
    let there = rows(admin, "SELECT id FROM ticks UNION SELECT id FROM archive").await?.concat();
    let there: BTreeSet<String> = there.into_iter().collect();
    let expired = ledger.book().expired.clone();
    for number in expired {
        for row in 1..=2 {
            if !there.contains(&format!("tick {number} {row}")) {
                ledger.fault(format!("row {row} of the expired partition {number} is lost"));
            }
        }
    }
    Ok(())
}

/// A queued order waits or is decided.
async fn queued(admin: &Client, ledger: &Ledger) -> Result<()> {
    let named = |(tenant, order): &Name| (format!("{tenant} {order}"), String::new());
    let names: Vec<Checked> = ledger.book().queued.iter().map(named).collect();
    for chunk in names.chunks(CHUNK) {
        let lost = format!(
            "SELECT o FROM unnest({}) o WHERE o NOT IN (
               SELECT tenant || ' ' || order_id FROM bulkhead.order_verdict UNION ALL SELECT tenant || ' ' || order_id FROM bulkhead.inventory_queue_0
               UNION ALL SELECT tenant || ' ' || order_id FROM bulkhead.inventory_queue_1 UNION ALL SELECT tenant || ' ' || order_id FROM bulkhead.inventory_queue_2
               UNION ALL SELECT tenant || ' ' || order_id FROM bulkhead.inventory_queue_3)",
            list(chunk)
        );
        for row in rows(admin, &lost).await? {
            ledger.fault(format!("a queued order is lost: {row:?}"));
        }
    }
    Ok(())
}

/// What one tenant was told is told again.
async fn told(app: &Client, tenant: &str, ledger: &Ledger) -> Result<()> {
    let (orders, notes, keys) = {
        let book = ledger.book();
        let orders: Vec<Checked> = book
            .orders
            .iter()
            .filter(|((whose, _), _)| *whose == tenant)
            .map(|((_, order), told)| (order.clone(), told.clone()))
            .collect();
        let notes: Vec<Checked> =
            book.rows.iter().filter(|(whose, _)| *whose == tenant).map(|(_, id)| (id.clone(), "1".into())).collect();
        let mut keys: Vec<Checked> = Vec::new();
        for ((_, name), key) in book.keys.iter().filter(|((whose, _), _)| *whose == tenant) {
            keys.push((name.clone(), if key.completed { format!("replay \"{}\" 1", key.by) } else { String::new() }));
        }
        (orders, notes, keys)
    };
    const VERDICTS: &str =
        "SELECT o, coalesce((SELECT string_agg(concat(item, ' ', verdict, ' ', remaining), ', ' ORDER BY line)
        FROM bulkhead.order_verdicts('stock', o)), 'none') FROM unnest({}) o";
    same("an order", app, VERDICTS, &orders, ledger).await?;
    same("a row", app, "SELECT o, (SELECT count(*) FROM notes WHERE id = o) FROM unnest({}) o", &notes, ledger).await?;
    const CLAIMS: &str = "SELECT o, concat_ws(' ', c.state, c.response, (SELECT count(*) FROM done WHERE key = o))
        FROM unnest({}) o, LATERAL bulkhead.idempotency_claim(o) c";
    same("a key", app, CLAIMS, &keys, ledger).await
}

async fn same(what: &str, app: &Client, ask: &str, promised: &[Checked], ledger: &Ledger) -> Result<()> {
    for chunk in promised.chunks(CHUNK) {
        let answers: BTreeMap<String, String> = rows(app, &ask.replace("{}", &list(chunk)))
            .await?
            .into_iter()
            .map(|mut row| (row.swap_remove(0), row.swap_remove(0)))
            .collect();
        for (name, promise) in chunk {
            let answer = answers.get(name).map_or("nothing", String::as_str);
            // A key that is only claimed is held; its answer may have got through without its client's knowing.
            let kept = match promise.as_str() {
                "" => answer == "in_progress 0" || answer.starts_with("replay") && answer.ends_with(" 1"),
                promise => answer == promise,
            };
            if !kept {
                ledger.fault(format!("{what}, {name}: promised {promise:?}, told {answer:?}"));
            }
        }
    }
    Ok(())
}
