//! observe: which statements would protect() refuse? A live product finds out before it protects.
//!
//! observe() registers a table and changes nothing about it. A statement that reaches it without a tenant is counted on a board in
//! shared memory (src/pg/board.rs), which bulkhead.naked_statements shows; protect() then promotes the table. This file is
//! the SQL surface; the functions are declared in sql/observe.sql.

mod normalise;

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::prelude::*;

use crate::error::{self, Result};
use crate::pg::{board, client, registry, security, spi};
use crate::rls;
use crate::seal::bypass;

::pgrx::extension_sql_file!("../../sql/observe.sql", name = "observe", requires = ["seal"]);

/// `observe(relation regclass, tenant_column name DEFAULT 'tenant_id')`: counts statements on the table that have no tenant.
///
/// Errors: 42501 not the owner; 22023 no such column, or an unfit type; 55000 not in shared_preload_libraries, or the
/// table is protected and there is no bypass. Takes ACCESS EXCLUSIVE for a moment, so that every plan of the table is made again.
#[pg_extern(sql = false)]
fn observe(relation: Option<pg_sys::Oid>, tenant_column: Option<&CStr>) -> Result<()> {
    let relation = rls::given(relation)?;
    let column = rls::given(tenant_column)?.to_string_lossy().into_owned();
    if !board::is_there() {
        return Err(error::state(
            "observe() needs bulkhead in shared_preload_libraries",
            "Statements are counted in memory that all sessions share.",
            "Append bulkhead to shared_preload_libraries and restart the server.",
        ));
    }
    if registry::is_protected(relation) {
        let table = security::relation_name(relation);
        bypass::require(&format!("observing protected table {table}"), "It would take the table out of the seal.")?;
    }
    rls::observe(relation, &column)
}

/// A statement without a tenant reaches an observed table. Never raises for what it counts.
pub fn note(relation: pg_sys::Oid) {
    if !board::is_there() {
        return;
    }
    let role = security::current_role().to_u32();
    let database = security::database();
    let application = client::application();
    let query = normalise::normalise(&client::statement(), client::backslashes_escape(), board::QUERY_BYTES);
    let mut hasher = DefaultHasher::new();
    (database, relation.to_u32(), role, &application, &query).hash(&mut hasher);
    let now = client::now();
    board::count(hasher.finish(), now, || board::Naked {
        database,
        relation: relation.to_u32(),
        role,
        query_id: client::query_id(),
        application: board::Text::new(&application),
        query: board::Text::new(&query),
        count: 1,
        last_seen: now,
    });
}

/// `naked_statements()`: what was counted in this database, for the tables that the caller owns (all of them for members of
/// pg_read_all_stats). No locks.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn naked_statements() -> TableIterator<
    'static,
    (
        name!(relation, pg_sys::Oid),
        name!(role, pg_sys::Oid),
        name!(application_name, String),
        name!(queryid, Option<i64>),
        name!(query, String),
        name!(count, i64),
        name!(last_seen, TimestampWithTimeZone),
    ),
> {
    let noted = if board::is_there() { board::read(security::database()) } else { Vec::new() };
    let seen = noted.into_iter().filter(|naked| security::may_look_at(pg_sys::Oid::from(naked.relation)));
    let rows: Vec<_> = seen
        .filter_map(|naked| {
            Some((
                pg_sys::Oid::from(naked.relation),
                pg_sys::Oid::from(naked.role),
                naked.application.get(),
                Some(naked.query_id).filter(|id| *id != 0),
                naked.query.get(),
                naked.count,
                TimestampWithTimeZone::try_from(naked.last_seen).ok()?,
            ))
        })
        .collect();
    TableIterator::new(rows)
}

/// What was counted for a table is of no more use.
pub fn forget(relation: pg_sys::Oid) {
    if board::is_there() {
        board::forget(security::database(), relation.to_u32());
    }
}

/// The recorded rows, for src/rls: observed tables and their columns.
pub fn remove(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.observation o WHERE o.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })?;
    relations.iter().for_each(|relation| forget(*relation));
    Ok(())
}

/// After DDL: the recorded names follow renamed columns, and where a name is right, as in a restored database, the number follows it.
pub fn follow() -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "UPDATE bulkhead.observation o SET tenant_attnum = a.attnum, tenant_column = a.attname
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) o.relation AND NOT a.attisdropped
                AND CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute n
                                       WHERE n.attrelid OPERATOR(pg_catalog.=) o.relation
                                         AND n.attname OPERATOR(pg_catalog.=) o.tenant_column AND NOT n.attisdropped)
                         THEN a.attname OPERATOR(pg_catalog.=) o.tenant_column AND a.attnum OPERATOR(pg_catalog.<>) o.tenant_attnum
                         ELSE a.attnum OPERATOR(pg_catalog.=) o.tenant_attnum END",
            &[],
        )
    })
}

/// Records an observed table.
pub fn record(relation: pg_sys::Oid, number: i16, column: &str) -> Result<()> {
    let role = security::current_role();
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.observation (relation, tenant_attnum, tenant_column, observed_by)
             VALUES ($1, $2, $3::pg_catalog.text::pg_catalog.name, pg_catalog.pg_get_userbyid($4))
             ON CONFLICT (relation) DO UPDATE SET tenant_attnum = excluded.tenant_attnum, tenant_column = excluded.tenant_column",
            &[relation.into(), number.into(), column.into(), role.into()],
        )
    })
}
