//! What is tried on a table, as SQL. Pure: names and literals come in quoted.

/// What shows that an attempt got through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The number that the last statement gives is greater than 0: rows of another tenant were seen.
    Sees,
    /// What the last statement gives is another answer once the other tenant's probe row is gone.
    Depends,
    /// The rows of this tenant are not those that were there before.
    Touches(String),
    /// A division by zero: the condition was evaluated for a row of another tenant.
    Divides,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub name: String,
    pub statements: Vec<String>,
    pub proof: Proof,
    /// With the tenant in force, or with none.
    pub with_tenant: bool,
}

/// A table to be attacked by tenant `own`.
pub struct Target<'a> {
    pub table: &'a str,
    /// The tenant column.
    pub column: &'a str,
    /// The tenants' ids, as literals.
    pub own: &'a str,
    pub other: &'a str,
    pub merge: bool,
    pub partitioned: bool,
}

fn attempt(name: &str, sql: String, proof: Proof) -> Attempt {
    Attempt { name: name.to_owned(), statements: vec![sql], proof, with_tenant: true }
}

/// Where a DO block leaves its number.
const SEEN: &str = "bulkhead_leak_test.seen";

fn block(name: &str, body: String) -> Attempt {
    let tell = format!("PERFORM pg_catalog.set_config('{SEEN}', n::text, true);");
    let body = body.replace("TELL", &tell);
    Attempt {
        name: name.to_owned(),
        statements: vec![
            format!("DO LANGUAGE plpgsql $leak_test${body}$leak_test$"),
            format!("SELECT pg_catalog.current_setting('{SEEN}')"),
        ],
        proof: Proof::Sees,
        with_tenant: true,
    }
}

/// Reads, in the shapes that policies have been got round by.
pub fn reads(target: &Target) -> Vec<Attempt> {
    let Target { table: t, column: c, own: a, other: b, .. } = target;
    let count = format!("SELECT count(*) FROM {t} WHERE {c} = {b}");
    let text = |sql: &str| format!("SELECT ({sql})::text");
    let see = |name: &str, sql: String| attempt(name, text(&sql), Proof::Sees);
    let quoted = count.replace('\'', "''");
    let mut without = see("select without tenant", format!("SELECT count(*) FROM {t}"));
    without.with_tenant = false;
    // A whole scan, where the order of the conditions decides.
    let whole = ["enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"]
        .map(|setting| format!("SELECT pg_catalog.set_config('{setting}', 'off', true)"));
    let mut condition = attempt("condition", String::new(), Proof::Divides);
    condition.statements = whole.to_vec();
    condition
        .statements
        .push(format!("SELECT count(*)::text FROM {t} WHERE 1 / CASE WHEN {c} = {b} THEN 0 ELSE 1 END = 1"));
    vec![
        see("select", format!("SELECT count(*) FROM {t} WHERE {c} IS DISTINCT FROM {a}")),
        see("select where", count.clone()),
        see("select or", format!("SELECT count(*) FILTER (WHERE x.{c} = {b}) FROM {t} x WHERE x.{c} = {a} OR true")),
        see("join", format!("SELECT count(*) FROM {t} x JOIN {t} y ON x.{c} = {a} AND y.{c} = {b}")),
        see("subquery", format!("SELECT count(*) FROM (SELECT * FROM {t} OFFSET 0) x WHERE x.{c} = {b}")),
        see("exists", format!("SELECT CASE WHEN EXISTS (SELECT FROM {t} WHERE {c} = {b}) THEN 1 ELSE 0 END")),
        see(
            "aggregate",
            format!("SELECT coalesce(sum(x.n), 0) FROM (SELECT {c}, count(*) AS n FROM {t} GROUP BY 1) x WHERE x.{c} = {b}"),
        ),
        attempt(
            "with",
            format!("WITH x AS MATERIALIZED (SELECT * FROM {t}) SELECT count(*)::text FROM x WHERE x.{c} = {b}"),
            Proof::Sees,
        ),
        see("for update", format!("SELECT count(*) FROM (SELECT 1 FROM {t} WHERE {c} = {b} FOR UPDATE) x")),
        block(
            "prepared",
            // After five runs the server may keep a plan for all parameters.
            format!(
                "DECLARE n bigint := 0; seen bigint; BEGIN
                   FOR i IN 1..7 LOOP SELECT count(*) INTO seen FROM {t} WHERE {c} = {b} AND i > 0; n := n + seen; END LOOP;
                   TELL END"
            ),
        ),
        block("cursor", format!("DECLARE n bigint; rows CURSOR FOR {count}; BEGIN OPEN rows; FETCH rows INTO n; TELL END")),
        see(
            "function",
            format!(
                "SELECT (pg_catalog.xpath('/table/row/count/text()', pg_catalog.query_to_xml('{quoted}', false, false, '')))[1]"
            ),
        ),
        condition,
        without,
    ]
}

/// Writes that would reach the other tenant's rows.
pub fn writes(target: &Target) -> Vec<Attempt> {
    let Target { table: t, column: c, own: a, other: b, merge, partitioned } = target;
    let touch = |name: &str, sql: String| attempt(name, sql, Proof::Touches((*b).to_owned()));
    let mut delete_without = touch("delete without tenant", format!("DELETE FROM {t}"));
    delete_without.with_tenant = false;
    let mut all = vec![
        touch("update where", format!("UPDATE {t} SET {c} = {c} WHERE {c} = {b}")),
        touch("update all", format!("UPDATE {t} SET {c} = {c}")),
        touch("update join", format!("UPDATE {t} x SET {c} = x.{c} FROM {t} y WHERE x.{c} = {b} AND y.{c} = {a}")),
        // Without a condition, so that only the policies for UPDATE are asked.
        touch("move", format!("UPDATE {t} SET {c} = {b}")),
        touch("delete where", format!("DELETE FROM {t} WHERE {c} = {b}")),
        touch("delete all", format!("DELETE FROM {t}")),
        touch("delete with", format!("WITH x AS (DELETE FROM {t} WHERE {c} = {b} RETURNING 1) SELECT count(*) FROM x")),
        touch("truncate", if *partitioned { format!("TRUNCATE {t}") } else { format!("TRUNCATE ONLY {t}") }),
        delete_without,
    ];
    if *merge {
        let merging = format!("MERGE INTO {t} x USING (SELECT 1) s ON x.{c} = {b} WHEN MATCHED THEN");
        all.push(touch("merge update", format!("{merging} UPDATE SET {c} = x.{c}")));
        all.push(touch("merge delete", format!("{merging} DELETE")));
    }
    all
}

/// A partition or child that is named itself.
pub fn child(target: &Target, child: &str) -> Vec<Attempt> {
    let Target { column: c, own: a, other: b, .. } = target;
    let name = |what: &str| format!("{what} {child}");
    vec![
        attempt(
            &name("select"),
            format!("SELECT count(*)::text FROM {child} WHERE {c} IS DISTINCT FROM {a}"),
            Proof::Sees,
        ),
        attempt(&name("delete"), format!("DELETE FROM {child} WHERE {c} = {b}"), Proof::Touches((*b).to_owned())),
    ]
}

/// How many rows there are, for one who may read some columns only.
pub fn count(target: &Target) -> Attempt {
    attempt("count", format!("SELECT count(*)::text FROM {}", target.table), Proof::Depends)
}

/// A view, or a function without arguments that gives rows: a figure of all that it shows.
pub fn contents(kind: &str, name: &str, from: &str) -> Attempt {
    attempt(
        &format!("{kind} {name}"),
        format!(
            "SELECT pg_catalog.concat(count(*), ' ', pg_catalog.bit_xor(pg_catalog.hashtextextended(x::text, 0))) FROM {from} x"
        ),
        Proof::Depends,
    )
}

/// An INSERT whose row is another tenant's, or that takes hold of another tenant's row by a conflict.
pub fn insert(name: &str, sql: String, touched: &str) -> Attempt {
    attempt(name, sql, Proof::Touches(touched.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_reads_read() {
        let target = Target { table: "s.t", column: "c", own: "'a'", other: "'b'", merge: true, partitioned: false };
        let all: Vec<Attempt> = reads(&target).into_iter().chain(writes(&target)).collect();
        let mut names: Vec<&str> = all.iter().map(|attempt| attempt.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for attempt in reads(&target) {
            let last = attempt.statements.last().map(String::as_str).unwrap_or_default();
            assert!(last.starts_with("SELECT") || last.starts_with("WITH"), "{last}");
        }
        assert_eq!(all.iter().filter(|attempt| !attempt.with_tenant).count(), 2);
    }
}
