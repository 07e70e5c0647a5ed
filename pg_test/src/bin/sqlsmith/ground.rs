//! The database that is attacked: protected tables of every kind with rows of A and of B, and what hangs on them.

use anyhow::{Context, Result, ensure};
use pg_test::{Client, Cluster, Database};

use crate::canary::{A, B, NUMBER, WORD};

pub const TABLES: &str = include_str!("tables.sql");
/// Made as A by uuid; in the twins a table.
pub const MATERIALIZED: &str = "CREATE MATERIALIZED VIEW kept_accounts AS SELECT id, name, email FROM accounts";

/// How many rows A has of most tables, and B.
const ROWS: [usize; 2] = [12, 40];

pub async fn prepare(cluster: &Cluster) -> Result<Database> {
    let db = cluster.database("sqlsmith")?;
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.put_rule_set, bulkhead.activate_rule_set TO owner")?;
    let owner = db.try_connect("owner").await?;
    run(&owner, TABLES).await?;
    if cluster.provision().postgres.major >= 15 {
        run(&owner, "CREATE VIEW by_invoker WITH (security_invoker) AS SELECT * FROM accounts WHERE peek(name)")
            .await?;
    }
    run(&owner, include_str!("protected.sql")).await?;
    run(&db.try_connect("postgres").await?, include_str!("superuser.sql")).await?;
    for (tenants, word, number, rows) in [(A, "plain", "7", ROWS[0]), (B, WORD, NUMBER, ROWS[1])] {
        for (tenant, kind) in tenants.iter().zip([Kind::Uuid, Kind::Number]) {
            for (role, text) in texts(kind) {
                let filled = text
                    .replace("{tenant}", tenant)
                    .replace("{uuid}", tenants[0])
                    .replace("{word}", word)
                    .replace("{number}", number)
                    .replace("{rows}", &rows.to_string());
                let session = acting(&db, role, tenant).await?;
                run(&session, &filled).await?;
            }
        }
    }
    run(&acting(&db, "owner", A[0]).await?, MATERIALIZED).await?;
    run(&db.try_connect("postgres").await?, "CALL bulkhead.score_pending('leads')").await?;
    // The planner knows of values of all tenants, as it does in life.
    db.admin("GRANT SELECT ON kept_accounts TO app, svc; ANALYZE")?;
    planted(&db)?;
    Ok(db)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Uuid,
    Number,
}

/// Who runs which script for such a tenant.
fn texts(kind: Kind) -> Vec<(&'static str, &'static str)> {
    let mut texts = vec![("owner", include_str!("rows.sql")), ("app", include_str!("of_bulkhead.sql"))];
    match kind {
        Kind::Uuid => {
            texts.push(("owner", include_str!("rows_by_uuid.sql")));
            texts.push(("app", include_str!("of_inventory.sql")));
        }
        Kind::Number => texts.push(("owner", include_str!("rows_by_number.sql"))),
    }
    texts
}

/// Tables whose tenants are numbers, and what reads them.
const BY_NUMBER: &str = "'visits', 'metrics', 'metrics_0', 'metrics_1', 'ranked', 'rows_of_the_admin'";
/// What any tenant can use.
const BY_TEXT: &str = "'notes', 'leads', 'threads', 'prices', 'state', 'rules', 'kept_accounts'";

/// The tables that the tenant's context fits; of the functions all are tried.
pub fn shown(tenant: &str) -> String {
    match tenant == A[0] {
        true => format!("table_name NOT IN ({BY_NUMBER})"),
        false => format!("table_schema <> 'public' OR table_name IN ({BY_NUMBER}, {BY_TEXT})"),
    }
}

pub async fn acting(db: &Database, role: &str, tenant: &str) -> Result<Client> {
    let session = db.try_connect(role).await?;
    run(&session, &format!("SET bulkhead.tenant_context = '{tenant}'")).await?;
    Ok(session)
}

pub async fn run(session: &Client, sql: &str) -> Result<()> {
    session
        .batch_execute(sql)
        .await
        .with_context(|| format!("as {}: {}", session.user(), sql.lines().next().unwrap_or("")))
}

/// The exclusion of the statistics is as wide as it has to be, and no wider: they show B's values to those roles, and to no others.
pub async fn statistics_are_open_to(db: &Database, role: &str) -> Result<bool> {
    let ask = format!("SELECT 1 FROM pg_stats WHERE concat(most_common_vals, histogram_bounds) ~ '{WORD}' LIMIT 1");
    Ok(!acting(db, role, A[0]).await?.query(&ask, &[]).await?.is_empty())
}

/// B's rows are there with their canaries, in every table that holds tenants' rows; else nothing would be proved.
fn planted(db: &Database) -> Result<()> {
    // In pieces: the statement is kept in bulkhead.bypass_log, which a superuser may read.
    let pattern =
        [WORD, B[0], NUMBER].map(|canary| canary.split_at(7)).map(|(one, other)| format!("'{one}' || '{other}'"));
    let pattern = pattern.join(" || '|' || ");
    let ask = format!(
        "SELECT c.oid::regclass::text FROM pg_class c
          WHERE c.relkind = 'r' AND (c.relnamespace = 'public'::regnamespace AND c.relname <> 'prices'
                OR c.oid IN ('bulkhead.rule_set'::regclass) OR c.oid IN (SELECT inhrelid FROM pg_inherits
                     WHERE inhparent IN ('bulkhead.idempotency_key'::regclass, 'bulkhead.order_verdict'::regclass)))
            AND query_to_xml(format('SELECT 1 FROM ONLY %s t WHERE t::text ~* %L', c.oid::regclass, {pattern}), true, true, '')::text = ''"
    );
    let without = db.admin(&ask)?;
    // Today's partition has the rows; the others are empty.
    let missing: Vec<&str> = without
        .lines()
        .filter(|table| {
            !table.contains("idempotency_key") && !table.contains("order_verdict") && !table.contains("metrics_")
        })
        .collect();
    ensure!(missing.is_empty(), "no canary in {missing:?}");
    Ok(())
}
