//! attach_scoring(): which tables score_pending() scores, and how their columns are called.

use pgrx::prelude::*;

use crate::error::{self, Result, given};
use crate::pg::registry::{self, Border};
use crate::pg::{client, security, spi, version};

/// An attached table as it is now. Names are quoted.
pub struct Attached {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub rule_set: String,
    /// The expression that is the document, of row `t`.
    pub document: String,
    pub score: Column,
    pub status: Column,
    pub version: Option<Column>,
    /// None where the table is not protected.
    pub tenant: Option<Column>,
}

#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub of_type: String,
    pub not_null: bool,
}

/// The names that attach_scoring() was given.
struct Names {
    rule_set: String,
    document: Option<String>,
    score: String,
    status: String,
    version: Option<String>,
}

fn owner(relation: pg_sys::Oid) -> Result<()> {
    security::require_owner(relation, "Scoring writes into the table's rows.")
}

/// A column of the table as it is now.
struct Known {
    plain_name: String,
    number: i16,
    generated: bool,
    column: Column,
}

/// All of them, by one query: a batch asks for several.
fn columns(relation: pg_sys::Oid) -> Result<Vec<Known>> {
    spi::kept_rows(
        "SELECT a.attname::text, a.attnum, a.attgenerated <> '' OR a.attidentity <> '', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                a.attnotnull
           FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[relation.into()],
        |row| {
            Ok(Known {
                plain_name: row.get(1)?,
                number: row.get(2)?,
                generated: row.get(3)?,
                column: Column { name: row.get(4)?, of_type: row.get(5)?, not_null: row.get(6)? },
            })
        },
    )
}

fn column(relation: pg_sys::Oid, known: &[Known], name: &str) -> Result<Column> {
    match known.iter().find(|known| known.plain_name == name) {
        Some(known) if !known.generated => Ok(known.column.clone()),
        Some(_) => Err(error::argument(
            format!("column \"{}\" of {} is generated", super::ascii(name), security::relation_name(relation)),
            "Scoring writes into its columns: give it ordinary ones.",
        )),
        None => Err(error::state(
            format!("{} has no column \"{}\"", security::relation_name(relation), super::ascii(name)),
            "Scoring is attached to columns by their names.",
            "Call bulkhead.attach_scoring() with the columns that there are.",
        )),
    }
}

fn resolve(relation: pg_sys::Oid, names: &Names) -> Result<Attached> {
    let known = columns(relation)?;
    let document = match &names.document {
        Some(name) => {
            let column = column(relation, &known, name)?;
            if column.of_type != "jsonb" {
                return Err(error::argument(
                    format!("column {} is of type {}, and a document is jsonb", column.name, column.of_type),
                    "Give it type jsonb, or name another column; NULL takes the whole row as the document.",
                ));
            }
            format!("t.{}", column.name)
        }
        None => "pg_catalog.to_jsonb(t)".to_owned(),
    };
    let tenant = match registry::find(relation).map(|entry| (entry.border, entry.column)) {
        Some((Border::Column(_), number)) => {
            let tenant = known.iter().find(|known| known.number == number).map(|known| known.column.clone());
            // Without it everybody's rows would be one tenant's.
            Some(tenant.ok_or_else(|| error::internal("the tenant column of a protected table is not to be found"))?)
        }
        Some((Border::Lost, _)) => {
            return Err(error::state(
                format!("{} is protected, and its tenant column is gone", security::relation_name(relation)),
                "Nobody's rows can be told apart.",
                "Protect it again.",
            ));
        }
        _ => None,
    };
    Ok(Attached {
        oid: relation,
        name: security::relation_name(relation),
        rule_set: names.rule_set.clone(),
        document,
        score: column(relation, &known, &names.score)?,
        status: column(relation, &known, &names.status)?,
        version: names.version.as_ref().map(|name| column(relation, &known, name)).transpose()?,
        tenant,
    })
}

/// An attached table; 55000 when it is not attached.
pub fn attached(relation: pg_sys::Oid) -> Result<Attached> {
    let names = security::as_extension(|| {
        spi::kept_row(
            "SELECT rule_set, document_column::text, score_column::text, status_column::text, version_column::text
               FROM bulkhead.scoring WHERE relation = $1",
            &[relation.into()],
            |row| {
                Ok(Names {
                    rule_set: row.get(1)?,
                    document: row.optional(2)?,
                    score: row.get(3)?,
                    status: row.get(4)?,
                    version: row.optional(5)?,
                })
            },
        )
    })?;
    let names = names.filter(|_| security::exists(relation)).ok_or_else(|| not_attached(relation))?;
    resolve(relation, &names)
}

fn not_attached(relation: pg_sys::Oid) -> pg_sys::panic::ErrorReport {
    error::state(
        format!("{} is not attached to scoring", security::relation_name(relation)),
        "bulkhead.attach_scoring() was not called for it.",
        "SELECT * FROM bulkhead.scoring_progress lists the attached tables.",
    )
}

fn text(name: Option<&std::ffi::CStr>) -> Option<String> {
    name.map(|name| name.to_string_lossy().into_owned())
}

/// `attach_scoring(relation, rule_set, document_column, score_column, status_column, version_column)`: from now on score_pending() may score the table. A
/// second call changes the names.
///
/// `document_column` NULL: the whole row is the document. Errors: 42501 not the owner; 22023 a column of a type that cannot be; 55000 a column
/// that is not there; 25006 read-only.
#[pg_extern(sql = false)]
fn attach_scoring(
    relation: Option<pg_sys::Oid>,
    rule_set: Option<&str>,
    document_column: Option<&std::ffi::CStr>,
    score_column: Option<&std::ffi::CStr>,
    status_column: Option<&std::ffi::CStr>,
    version_column: Option<&std::ffi::CStr>,
) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"attach_scoring()");
    let relation = given(relation, "relation")?;
    owner(relation)?;
    let names = Names {
        rule_set: given(rule_set.filter(|name| !name.is_empty()), "rule_set")?.to_owned(),
        document: text(document_column),
        score: given(text(score_column), "score_column")?,
        status: given(text(status_column), "status_column")?,
        version: text(version_column),
    };
    let ordinary = spi::row(
        "SELECT c.relkind IN ('r', 'p') AND c.relpersistence <> 't' FROM pg_class c WHERE c.oid = $1",
        &[relation.into()],
        |row| row.get::<bool>(1),
    )?;
    if ordinary != Some(true) {
        return Err(error::argument(
            format!("{} cannot be scored: it is no ordinary table", security::relation_name(relation)),
            "Name a table that other sessions see: neither a view, nor foreign, nor temporary.",
        ));
    }
    let table = resolve(relation, &names)?;
    check_types(&table)?;
    suggest_index(&table)?;
    let role = client::who().role;
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.scoring (relation, rule_set, document_column, score_column, status_column, version_column, attached_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (relation) DO UPDATE SET rule_set = EXCLUDED.rule_set, document_column = EXCLUDED.document_column,
               score_column = EXCLUDED.score_column, status_column = EXCLUDED.status_column, version_column = EXCLUDED.version_column,
               attached_at = EXCLUDED.attached_at, attached_by = EXCLUDED.attached_by",
            &[
                relation.into(),
                names.rule_set.clone().into(),
                names.document.clone().into(),
                names.score.clone().into(),
                names.status.clone().into(),
                names.version.clone().into(),
                role.into(),
            ],
        )
    })
}

/// `detach_scoring(relation)`: ends it. Errors: 42501 not the owner; 55000 not attached; 25006 read-only.
#[pg_extern(sql = false)]
fn detach_scoring(relation: Option<pg_sys::Oid>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"detach_scoring()");
    let relation = given(relation, "relation")?;
    owner(relation)?;
    let gone = security::as_extension(|| {
        spi::row("DELETE FROM bulkhead.scoring WHERE relation = $1 RETURNING true", &[relation.into()], |row| {
            row.get::<bool>(1)
        })
    })?;
    gone.map(|_| ()).ok_or_else(|| not_attached(relation))
}

/// After `relations` were dropped: a new table of the old oid, here or where a dump is restored, is not attached.
pub fn forget(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.scoring s WHERE s.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )?;
        spi::run(
            "DELETE FROM bulkhead.scoring_run r WHERE r.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })
}

/// A numeric must fit the score's column, and the three words the status's. Its type may be a domain or an enum of the owner's, so the owner's rights are enough.
fn check_types(table: &Attached) -> Result<()> {
    let kind = table.score.of_type.split('(').next().unwrap_or_default();
    let kinds = ["numeric", "integer", "bigint", "smallint", "double precision", "real"];
    if !kinds.contains(&kind) || table.score.of_type.ends_with("[]") {
        return Err(error::argument(
            format!("column {} is of type {}, and a score is a number", table.score.name, table.score.of_type),
            "Give it type numeric.",
        ));
    }
    if let Some(version) = &table.version
        && !["integer", "bigint"].contains(&version.of_type.as_str())
    {
        return Err(error::argument(
            format!("column {} is of type {}, and a version is an integer", version.name, version.of_type),
            "Give it type integer.",
        ));
    }
    let written = [Some(&table.score), Some(&table.status), table.version.as_ref(), table.tenant.as_ref()];
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = written.into_iter().flatten().find(|column| !seen.insert(&column.name)) {
        return Err(error::argument(
            format!("column {} of {} is named for two things", twice.name, table.name),
            "Score, status, version and tenant are columns of their own.",
        ));
    }
    let of_type = &table.status.of_type;
    let check = format!(
        "SELECT bool_and(word::{of_type}::text = word) FROM unnest(ARRAY['pending_score', 'scored', 'score_failed']) AS words (word)"
    );
    let fits = security::as_owner(table.oid, || spi::row(&check, &[], |row| row.get::<bool>(1)))?;
    if fits == Some(true) {
        return Ok(());
    }
    Err(error::argument(
        format!(
            "column {} of type {of_type} cannot hold the words pending_score, scored and score_failed",
            table.status.name
        ),
        "Give it type text.",
    ))
}

/// Whether an index finds the rows that wait.
pub fn has_index(table: &Attached) -> Result<bool> {
    let there = spi::look(
        "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND i.indisvalid
                         AND pg_get_expr(i.indpred, i.indrelid) LIKE '%pending_score%')",
        &[table.oid.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(there == [true])
}

/// Rows that wait are found by an index, or by reading the whole table for each batch.
fn suggest_index(table: &Attached) -> Result<()> {
    if !has_index(table)? {
        let column = table.tenant.as_ref().map_or(&table.status.name, |tenant| &tenant.name);
        let index = format!(
            "CREATE INDEX CONCURRENTLY ON {} ({column}) WHERE {} = 'pending_score'",
            table.name, table.status.name
        );
        notice!("no index finds the rows that wait; make one: {index}");
    }
    Ok(())
}
