//! Sealed, a query gives what it gives in a plain database that holds only A's rows.
//!
//! The queries are those that succeeded. Each is run twice in each of two plain twins, and counts when all four answers are the same: what depends on the time,
//! on chance or on object ids does not. Then a superuser runs it in the protected database under A's context, and the rows, in any order, must be the same.
//! At the end planted.rs has the same code notice what is broken on purpose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_test::{Client, Database};
use tokio_postgres::SimpleQueryMessage;

use crate::canary::A;
use crate::{ground, planted};

/// What a twin does not have, or what depends on the order of rows, on sizes, or on chance. Beginnings of words.
const LEFT_OUT: [&str; 22] = [
    "bulkhead",
    "pg_",
    "offset",
    "tablesample",
    "string_agg",
    "array_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "xmlagg",
    "last_text",
    "row_number",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
    "ntile",
    "insert",
    "update",
    "delete",
];

/// How many queries went which way.
#[derive(Debug, Default)]
pub struct Outcome {
    pub replayed: u64,
    pub same: u64,
    /// Of those that are the same, how many had rows to compare.
    pub with_rows: u64,
    pub rows: u64,
    /// Not the same in the twins, or not without an error there.
    pub unstable: u64,
    pub different: Vec<String>,
    /// The same ones with rows, until [`planted`] has run them again.
    pub equal: Vec<String>,
    /// How many of them it ran past the seal, and how many of those differed.
    pub past_the_seal: u64,
    pub noticed: u64,
    /// Where it did not find what it planted.
    pub unproved: Vec<String>,
}

/// Replays what `kept` holds, for at most that long.
pub async fn run(db: &Database, kept: &[u8], limit: Duration) -> Result<Outcome> {
    let mut by_tenant: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for record in kept.split(|byte| *byte == 0) {
        let record = std::str::from_utf8(record)?;
        let Some((tenant, query)) = record.split_once('\n') else { continue };
        if let (Some(query), Some(tenant)) = (comparable(query), A.iter().find(|known| **known == tenant)) {
            by_tenant.entry(tenant).or_default().push(query);
        }
    }
    let (mut outcome, share) = (Outcome::default(), limit / A.len() as u32);
    for (tenant, queries) in by_tenant {
        let twins = [twin(db, tenant, 0)?, twin(db, tenant, 1)?];
        let plain = [session(&twins[0], "").await?, session(&twins[1], "").await?];
        let sealed = session(db, tenant).await?;
        let start = Instant::now();
        // From all over the run, however many there is time for.
        for query in spread(queries) {
            if start.elapsed() > share {
                break;
            }
            compare(&plain, &sealed, &query, &mut outcome).await;
        }
        let equal = std::mem::take(&mut outcome.equal);
        match planted::notice(db, &plain, &sealed, &equal).await {
            Ok((again, noticed)) => {
                outcome.past_the_seal += again;
                outcome.noticed += noticed;
            }
            Err(error) => outcome.unproved.push(format!("{error:#}")),
        }
        drop(plain);
        for twin in twins {
            twin.drop()?;
        }
    }
    Ok(outcome)
}

/// Every seventh, then every seventh of the others beginning one later, and so on.
fn spread(queries: Vec<String>) -> Vec<String> {
    let mut numbered: Vec<(usize, String)> = queries.into_iter().enumerate().collect();
    numbered.sort_by_key(|(number, _)| (number % 7, *number));
    numbered.into_iter().map(|(_, query)| query).collect()
}

/// The query without its limits, which would pick rows by their order; none when it cannot be compared.
fn comparable(query: &str) -> Option<String> {
    let lower = query.trim_start().to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| *word != "pg_catalog");
    let left_out = |word: &str| {
        LEFT_OUT.iter().any(|beginning| word == *beginning || beginning.ends_with('_') && word.starts_with(beginning))
    };
    if !(lower.starts_with("select") || lower.starts_with("with")) || words.clone().any(left_out) {
        return None;
    }
    let mut text = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("limit ") {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        text.push_str(before);
        rest = &after[digits..];
    }
    text.push_str(rest);
    Some(text)
}

pub async fn compare(plain: &[Client; 2], sealed: &Client, query: &str, outcome: &mut Outcome) {
    outcome.replayed += 1;
    let mut expected = None;
    for twin in [&plain[0], &plain[0], &plain[1], &plain[1]] {
        let answer = answer(twin, query).await.ok();
        if answer.is_none() || expected.is_some_and(|before| Some(before) != answer) {
            outcome.unstable += 1;
            return;
        }
        expected = answer;
    }
    match (answer(sealed, query).await, expected) {
        (Ok(got), Some(wanted)) if got == wanted => {
            outcome.same += 1;
            outcome.rows += got.0 as u64;
            if got.0 > 0 {
                outcome.with_rows += 1;
                outcome.equal.push(query.to_owned());
            }
        }
        // It was not the answer that was missing, but the time.
        (Err(error), _) if error.code().is_some_and(|code| code.code() == "57014") => outcome.unstable += 1,
        (got, wanted) => {
            let said = got.map(|(rows, _)| format!("{rows} rows")).unwrap_or_else(|error| format!("{error:?}"));
            outcome.different.push(format!("{said} instead of {} rows:\n{query}", wanted.map_or(0, |(rows, _)| rows)));
        }
    }
}

/// How many rows, and a number that stands for them in any order.
type Answer = (usize, u64);

async fn answer(session: &Client, query: &str) -> Result<Answer, tokio_postgres::Error> {
    session.batch_execute("BEGIN").await?;
    let result = session.simple_query(query).await;
    session.batch_execute("ROLLBACK").await?;
    let mut rows: Vec<u64> = Vec::new();
    for message in result? {
        if let SimpleQueryMessage::Row(row) = message {
            let mut hasher = DefaultHasher::new();
            (0..row.len()).for_each(|column| row.get(column).hash(&mut hasher));
            rows.push(hasher.finish());
        }
    }
    rows.sort_unstable();
    let mut hasher = DefaultHasher::new();
    rows.hash(&mut hasher);
    Ok((rows.len(), hasher.finish()))
}

/// A superuser's.
async fn session(db: &Database, tenant: &str) -> Result<Client> {
    let session = if tenant.is_empty() {
        db.try_connect("postgres").await?
    } else {
        ground::acting(db, "postgres", tenant).await?
    };
    settle(session).await
}

/// Sums of floating point numbers depend on the order in their last digits.
pub async fn settle(session: Client) -> Result<Client> {
    ground::run(
        &session,
        "SET statement_timeout = '1s'; SET extra_float_digits = 0; SET max_parallel_workers_per_gather = 0",
    )
    .await?;
    Ok(session)
}

/// A plain database with A's rows; the number moves its object ids.
fn twin(db: &Database, tenant: &str, number: usize) -> Result<Database> {
    let twin = db.cluster.empty_database("twin")?;
    let mut script = "CREATE TABLE moved (n int); DROP TABLE moved;\n".repeat(number * 7);
    let kept = "CREATE TABLE kept_accounts (id bigint, name text, email text);";
    writeln!(
        script,
        "{}\n{}\n{kept}\nSET session_replication_role = replica;",
        ground::TABLES,
        include_str!("superuser.sql")
    )?;
    let columns = "SELECT c.relname, (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
              WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
            (SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id')
          FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'm') AND c.relname <> 'prices'";
    let foreign = if tenant == A[0] { "bigint" } else { "uuid" };
    for line in db.admin(columns)?.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        // To a tenant of the other type nothing belongs there.
        if let [table, columns, kind] = parts[..]
            && kind != foreign
        {
            let rows = copy_out(db, tenant, &format!("COPY (SELECT {columns} FROM ONLY {table}) TO STDOUT"))?;
            write!(script, "COPY {table} ({columns}) FROM STDIN;\n{rows}\\.\n")?;
        }
    }
    script.push_str("SET session_replication_role = origin; ANALYZE;");
    let output = twin.cluster.admin(&twin.name, &script).context("filling a plain twin")?;
    ensure!(output.lines().all(|line| line.is_empty()), "{output}");
    Ok(twin)
}

fn copy_out(db: &Database, tenant: &str, copy: &str) -> Result<String> {
    let mut command = db.client_program("psql", "postgres");
    command.env("PGOPTIONS", format!("-c bulkhead.tenant_context={tenant}")).args([
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("psql has no input")?.write_all(copy.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{copy}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_taken_away_and_what_depends_on_order_is_left_out() {
        assert_eq!(
            comparable("select 1 from (select 2 limit 7) s\nlimit 10").as_deref(),
            Some("select 1 from (select 2 ) s\n")
        );
        for left_out in [
            "select a limit 1 offset 2",
            "insert into t select 1",
            "select pg_catalog.pg_backend_pid()",
            "select lag(x) over () from t",
        ] {
            assert_eq!(comparable(left_out), None, "{left_out}");
        }
        assert!(comparable("select flag, pg_catalog.max(leader) from t").is_some());
    }
}
