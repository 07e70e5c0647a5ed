//! observe: which statements would protect() refuse? A live product finds out before it protects.
//!
//! observe() registers a table and changes nothing about it. A statement that reaches it without a tenant is counted on a board in
//! shared memory (src/pg/board.rs), which bulkhead.naked_statements shows; protect() then promotes the table. This file is
//! the SQL surface; the functions are declared in sql/observe.sql.

mod normalise;

use std::cell::RefCell;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::prelude::*;

use crate::error::{self, Result};
use crate::pg::cell::{PerBackend, hot};
use crate::pg::{board, client, registry, security, spi, version};
use crate::rls;
use crate::seal::bypass;

::pgrx::extension_sql_file!("../../sql/observe.sql", name = "observe", requires = ["leak_test"]);

/// `observe(relation regclass, tenant_column name DEFAULT 'tenant_id')`: counts statements on the table that have no tenant.
///
/// Errors: 42501 not the owner; 22023 no such column, or an unfit type; 55000 not in shared_preload_libraries, or the
/// table is protected and there is no bypass; 25006 read-only. Takes ACCESS EXCLUSIVE for a moment, so that every plan of the table is made again.
#[pg_extern(sql = false)]
fn observe(relation: Option<pg_sys::Oid>, tenant_column: Option<&CStr>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"observe()");
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

/// The last statement that this backend counted for a relation: the same again needs neither its normal form nor a search.
struct Counted {
    relation: u32,
    role: u32,
    application: Vec<u8>,
    statement: Vec<u8>,
    /// Its normal form, as `normalise::raw` has it, where the statement is plain ASCII: it then reads the same in every encoding.
    normal: Option<String>,
    key: u64,
    place: board::EntryRef,
}

impl Counted {
    fn is_for(&self, statement: &[u8]) -> bool {
        self.statement == statement
            || self.normal.as_ref().is_some_and(|normal| {
                std::str::from_utf8(statement).is_ok_and(|statement| {
                    statement.is_ascii()
                        && normalise::is_same(statement, client::backslashes_escape(), board::QUERY_BYTES, normal)
                })
            })
    }
}

/// One for each of a few relations, so that a statement on two tables finds both.
const REMEMBERED: usize = 8;
/// A longer statement is not remembered.
const LONGEST: usize = 16 * 1024;

hot! {
    static COUNTED: PerBackend<RefCell<[Option<Counted>; REMEMBERED]>> =
        PerBackend::new(RefCell::new([const { None }; REMEMBERED]));
}

/// Counts a statement that is the one counted last for the relation. False: it is not, and `note` has to. Calls nothing that could raise.
#[inline(always)]
pub fn note_again(relation: pg_sys::Oid) -> bool {
    let relation = relation.to_u32();
    COUNTED.try_borrow().is_ok_and(|counted| {
        counted[relation as usize % REMEMBERED].as_ref().is_some_and(|last| {
            (last.relation, last.role) == (relation, security::current_role().to_u32())
                && last.is_for(client::raw_statement())
                && last.application == client::raw_application()
                && board::count_again(last.key, last.place, client::statement_start())
        })
    })
}

/// A statement without a tenant reaches an observed table. Never raises for what it counts.
pub fn note(relation: pg_sys::Oid) {
    if !board::is_there() || note_again(relation) {
        return;
    }
    let relation = relation.to_u32();
    let role = security::current_role().to_u32();
    let (application, statement) = (client::raw_application(), client::raw_statement());
    let normal = normalise::raw(&client::statement(), client::backslashes_escape(), board::QUERY_BYTES);
    let (key, place) = count(relation, role, application, normal.clone());
    let counted = (statement.len() <= LONGEST).then(|| Counted {
        relation,
        role,
        application: application.to_vec(),
        statement: statement.to_vec(),
        normal: statement.is_ascii().then_some(normal),
        key,
        place,
    });
    COUNTED.borrow_mut()[relation as usize % REMEMBERED] = counted;
}

fn count(relation: u32, role: u32, application: &[u8], normal: String) -> (u64, board::EntryRef) {
    let database = security::database();
    let query = normalise::finish(normal, board::QUERY_BYTES);
    let mut hasher = DefaultHasher::new();
    (database, relation, role, application, &query).hash(&mut hasher);
    let key = hasher.finish().max(1);
    let place = board::count(key, client::statement_start(), || board::Naked {
        database,
        relation,
        role,
        query_id: client::query_id(),
        application: board::Text::new(&client::application()),
        query: board::Text::new(&query),
    });
    (key, place)
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
    // What was counted before protect() stays on the board, out of sight: protect() may be rolled back.
    let seen = noted.into_iter().filter(|seen| {
        let relation = pg_sys::Oid::from(seen.naked.relation);
        is_observed(relation) && security::may_look_at(relation)
    });
    let rows: Vec<_> = seen
        .filter_map(|seen| {
            let naked = seen.naked;
            Some((
                pg_sys::Oid::from(naked.relation),
                pg_sys::Oid::from(naked.role),
                naked.application.get(),
                Some(naked.query_id).filter(|id| *id != 0),
                naked.query.get(),
                seen.count,
                TimestampWithTimeZone::try_from(seen.last_seen).ok()?,
            ))
        })
        .collect();
    TableIterator::new(rows)
}

pub use board::PLACES;

/// Places of the board that are taken, if any, and how many statements gave theirs to another since the server started.
pub fn places() -> Option<(usize, i64)> {
    fill().filter(|(taken, _)| *taken > 0)
}

/// Places that are taken, and how many statements gave theirs to another since the server started. None without a board.
pub fn fill() -> Option<(usize, i64)> {
    board::is_there().then(board::fill)
}

/// By itself, or with a parent.
fn is_observed(relation: pg_sys::Oid) -> bool {
    registry::find(relation).is_some_and(|entry| matches!(entry.border, registry::Border::Observed(_)))
}

/// The tables that observe() was called for.
pub fn recorded() -> Result<Vec<pg_sys::Oid>> {
    security::as_extension(|| {
        spi::rows("SELECT o.relation::oid FROM bulkhead.observation o ORDER BY 1", &[], |row| row.get(1))
    })
}

/// Ends the observation of these tables.
pub fn remove(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.observation o WHERE o.relation OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })
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

/// Records an observed table. What an earlier observation counted goes.
pub fn record(relation: pg_sys::Oid, number: i16, column: &str) -> Result<()> {
    if !is_observed(relation) {
        board::forget(security::database(), relation.to_u32());
    }
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
