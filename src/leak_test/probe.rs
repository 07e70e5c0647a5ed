//! Probe rows: two tenants that nobody knows, each with a row in the table, made as the table's owner and rolled back at the end.
//!
//! A column that needs a value gets one of its type; a foreign key gets a probe row in the table that it refers to. Where that does not do (a
//! CHECK constraint, a trigger that refuses), two tenants that have rows already are taken.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::{act_for, under_path};
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::{security, spi};

/// A table under test.
pub struct Table {
    pub oid: pg_sys::Oid,
    /// `schema.name`, quoted.
    pub name: String,
    /// The tenant column, its name quoted.
    pub column: String,
    pub attnum: i16,
    /// uuid, text or bigint, whatever the column's own name for it is.
    pub kind: String,
    pub sealed: bool,
    pub partitioned: bool,
}

/// The tenants that play. Ids are literals.
pub struct TestTenants {
    pub own: String,
    pub other: String,
    /// Nobody's rows are these tenants': an INSERT for `third` can be tried, and the other's probe row be taken away.
    pub made: Option<Made>,
}

pub struct Made {
    /// A row of a third tenant, and one of the own.
    pub insert_third: String,
    pub third: String,
    pub insert_own: Option<String>,
    /// A row of the own tenant under the other's key, where a key spans tenants.
    pub conflict: Option<String>,
}

/// Columns by number, with the text of their values.
type RowText = HashMap<i16, String>;

pub struct ProbeRows<'a> {
    /// Users' search_path.
    path: &'a str,
    /// What was made already, so that a tenant has one row in each table.
    rows: HashMap<(u32, String), RowText>,
    number: u32,
}

const DEPTH: usize = 6;

struct Column {
    number: i16,
    name: String,
    /// A value has to be given.
    needed: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    always: bool,
    /// A literal of its type.
    value: String,
}

impl ProbeRows<'_> {
    pub fn new(path: &str) -> ProbeRows<'_> {
        ProbeRows { path, rows: HashMap::new(), number: 0 }
    }

    /// Makes the tenants and a probe row for each; in the caller's subtransaction.
    pub fn make(&mut self, table: &Table) -> Result<TestTenants> {
        let [own, other, third] = tenants(&table.kind)?;
        for tenant in [&own, &other] {
            self.row(table.oid, tenant, 0)?;
        }
        let (insert_third, _) = self.statement(table.oid, &third, 0)?;
        let alone = spans_no_more_than(table)?;
        let insert_own = if alone { None } else { Some(self.statement(table.oid, &own, 0)?.0) };
        let conflict = self.conflict(table, &own, &other)?;
        let made = Some(Made { insert_third, third, insert_own, conflict });
        Ok(TestTenants { own, other, made })
    }

    /// Inserts a probe row of the tenant, unless there is one, and returns it.
    fn row(&mut self, relation: pg_sys::Oid, tenant: &str, depth: usize) -> Result<RowText> {
        let key = (relation.to_u32(), tenant.to_owned());
        if let Some(row) = self.rows.get(&key) {
            return Ok(row.clone());
        }
        let (sql, columns) = self.statement(relation, tenant, depth)?;
        let list: Vec<String> = columns.iter().map(|column| format!("{}::text", column.name)).collect();
        let returning = format!("{sql} RETURNING ARRAY[{}]", list.join(", "));
        let values = as_tenant_kept(tenant, || {
            under_path(self.path, || {
                security::as_owner(relation, || spi::row(&returning, &[], |row| row.get::<Vec<Option<String>>>(1)))
            })
        })?
        .unwrap_or_default();
        let row: RowText = columns.iter().zip(values).filter_map(|(c, value)| Some((c.number, value?))).collect();
        self.rows.insert(key, row.clone());
        Ok(row)
    }

    /// The INSERT of another row of the tenant; what it refers to is made.
    fn statement(&mut self, relation: pg_sys::Oid, tenant: &str, depth: usize) -> Result<(String, Vec<Column>)> {
        self.built(relation, tenant, &HashMap::new(), depth)
    }

    fn built(
        &mut self,
        relation: pg_sys::Oid,
        tenant: &str,
        fixed: &RowText,
        depth: usize,
    ) -> Result<(String, Vec<Column>)> {
        if depth > DEPTH {
            return Err(error::internal("foreign keys go round in a circle"));
        }
        self.number += 1;
        let columns = columns(relation, self.number)?;
        let mut given: HashMap<i16, String> =
            columns.iter().filter(|column| column.needed).map(|column| (column.number, column.value.clone())).collect();
        let tenant_column = tenant_column(relation)?;
        if let Some(column) = tenant_column {
            given.insert(column, tenant.to_owned());
        }
        for (parent, pairs) in parents(relation)? {
            if parent == relation || !pairs.iter().any(|(child, _)| given.contains_key(child)) {
                continue;
            }
            let row = self.row(parent, tenant, depth + 1)?;
            for (child, of_parent) in pairs {
                if let Some(value) = row.get(&of_parent) {
                    given.insert(child, spi::literal(value));
                }
            }
        }
        // A parent has it in another form, as the text of its own column.
        if let Some(column) = tenant_column {
            given.insert(column, tenant.to_owned());
        }
        given.extend(fixed.iter().map(|(column, value)| (*column, spi::literal(value))));
        let named: Vec<&Column> = columns.iter().filter(|column| given.contains_key(&column.number)).collect();
        let names: Vec<&str> = named.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<&str> = named.iter().map(|column| given[&column.number].as_str()).collect();
        let name = security::relation_name(relation);
        let overriding = if named.iter().any(|column| column.always) { " OVERRIDING SYSTEM VALUE" } else { "" };
        let sql = if names.is_empty() {
            format!("INSERT INTO {name} DEFAULT VALUES")
        } else {
            format!("INSERT INTO {name} ({}){overriding} VALUES ({})", names.join(", "), values.join(", "))
        };
        Ok((sql, columns))
    }

    fn conflict(&mut self, table: &Table, own: &str, other: &str) -> Result<Option<String>> {
        let key = spi::row(
            "SELECT (x.indkey::smallint[])[0:x.indnkeyatts - 1]::integer[] FROM pg_index x
              WHERE x.indrelid = $1 AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL AND x.indexprs IS NULL
                AND $2 <> ALL ((x.indkey::smallint[])[0:x.indnkeyatts - 1])
              ORDER BY x.indisprimary DESC, x.indexrelid LIMIT 1",
            &[table.oid.into(), table.attnum.into()],
            |row| row.get::<Vec<i32>>(1),
        )?;
        let Some(key) = key else { return Ok(None) };
        let row = self.row(table.oid, other, 0)?;
        let key: Vec<i16> = key.into_iter().filter_map(|number| i16::try_from(number).ok()).collect();
        let fixed: RowText = key.iter().filter_map(|number| Some((*number, row.get(number)?.clone()))).collect();
        if fixed.len() != key.len() {
            return Ok(None);
        }
        let (sql, columns) = self.built(table.oid, own, &fixed, 0)?;
        let names: Vec<&str> =
            columns.iter().filter(|column| key.contains(&column.number)).map(|column| column.name.as_str()).collect();
        let column = &table.column;
        Ok(Some(format!("{sql} ON CONFLICT ({}) DO UPDATE SET {column} = excluded.{column}", names.join(", "))))
    }
}

/// Two tenants that have rows. The rows of a sealed table are nobody's to look through.
pub fn present(table: &Table) -> Result<Option<TestTenants>> {
    let Table { oid, name, column, .. } = table;
    if table.sealed {
        return Err(error::internal("the table is sealed"));
    }
    let sql = format!("SELECT t.id FROM (SELECT DISTINCT x.{column}::text AS id FROM {name} x LIMIT 2) t ORDER BY 1");
    let ids = security::as_unforced_owner(*oid, || spi::rows(&sql, &[], |row| row.get::<String>(1)))?;
    let [own, other] = ids.as_slice() else { return Ok(None) };
    Ok(Some(TestTenants { own: spi::literal(own), other: spi::literal(other), made: None }))
}

/// Runs `work` for a tenant in this subtransaction, and keeps what it did; the context is as before after it.
fn as_tenant_kept<R>(tenant: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    state::as_new_transaction(|| {
        act_for(tenant)?;
        let result = work();
        act_for("''")?;
        result
    })
}

fn tenants(kind: &str) -> Result<[String; 3]> {
    let ids = spi::rows(
        "SELECT CASE $1 WHEN 'uuid' THEN gen_random_uuid()::text
                        WHEN 'bigint' THEN (2000000000 + n * 40000000 + floor(random() * 40000000)::integer)::text
                        ELSE 'leak' || n || substr(md5(random()::text), 1, 5) END
           FROM generate_series(0, 2) AS n",
        &[kind.into()],
        |row| row.get::<String>(1),
    )?;
    <[String; 3]>::try_from(ids)
        .map(|ids| ids.map(|id| spi::literal(&id)))
        .map_err(|_| error::internal("no three tenants"))
}

/// Whether the tenant column alone is a key, so that a tenant can have one row only.
fn spans_no_more_than(table: &Table) -> Result<bool> {
    let alone = spi::row(
        "SELECT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = $1 AND x.indisunique AND x.indnkeyatts = 1 AND x.indkey[0] = $2)",
        &[table.oid.into(), table.attnum.into()],
        |row| row.get(1),
    )?;
    Ok(alone.unwrap_or(false))
}

fn tenant_column(relation: pg_sys::Oid) -> Result<Option<i16>> {
    spi::row(
        "SELECT a.attnum FROM bulkhead.protected_tables t JOIN pg_attribute a ON a.attrelid = t.relation AND a.attname = t.tenant_column
          WHERE t.relation = $1 AND NOT t.shared",
        &[relation.into()],
        |row| row.get(1),
    )
}

/// The numbers of a column and of the one that it refers to.
type Pairs = Vec<(i16, i16)>;

/// The tables that this one refers to, with the pairs of columns.
fn parents(relation: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, Pairs)>> {
    spi::rows(
        "SELECT k.confrelid, k.conkey::integer[], k.confkey::integer[] FROM pg_constraint k
          WHERE k.conrelid = $1 AND k.contype = 'f' ORDER BY k.conname",
        &[relation.into()],
        |row| {
            let [child, parent] = [row.get::<Vec<i32>>(2)?, row.get::<Vec<i32>>(3)?]
                .map(|numbers| numbers.into_iter().filter_map(|number| i16::try_from(number).ok()).collect::<Vec<_>>());
            Ok((row.get(1)?, child.into_iter().zip(parent).collect()))
        },
    )
}

/// The columns of a table, with a value for each. The key of a partitioned table gets one from the bound of a partition.
fn columns(relation: pg_sys::Oid, number: u32) -> Result<Vec<Column>> {
    spi::rows(include_str!("columns.sql"), &[relation.into(), i64::from(number).into()], |row| {
        Ok(Column {
            number: row.get(1)?,
            name: row.get(2)?,
            needed: row.get(3)?,
            always: row.get(4)?,
            value: row.get(5)?,
        })
    })
}
