//! What is tried, by whom: tables, their children, views and functions over them, and roles. Bounded; what is left out is said.

use pgrx::prelude::*;

use super::probe::Table;
use crate::error::{self, Result};
use crate::pg::{security, spi};

pub const MAX_TABLES: i64 = 200;
pub const MAX_ROLES: i64 = 50;
const MAX_CHILDREN: i64 = 3;
const MAX_READERS: i64 = 10;

/// The protected tables that stand for themselves (a child is tried with its parent), or the one that is named.
pub fn tables(relation: Option<pg_sys::Oid>) -> Result<Vec<Table>> {
    let tables = spi::rows(
        "SELECT c.oid, format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), a.attnum,
                CASE format_type(coalesce(d.base, a.atttypid), NULL) WHEN 'uuid' THEN 'uuid' WHEN 'bigint' THEN 'bigint'
                     WHEN 'integer' THEN 'bigint' ELSE 'text' END,
                t.sealed, c.relkind = 'p'
           FROM bulkhead.protected_tables t
           JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column
           LEFT JOIN LATERAL (
             WITH RECURSIVE down(base) AS (
               SELECT y.typbasetype FROM pg_type y WHERE y.oid = a.atttypid AND y.typtype = 'd'
               UNION ALL SELECT y.typbasetype FROM down JOIN pg_type y ON y.oid = down.base AND y.typtype = 'd')
             SELECT down.base FROM down JOIN pg_type y ON y.oid = down.base AND y.typtype <> 'd') d ON true
          WHERE NOT t.shared
            AND CASE WHEN $1 IS NULL
                     THEN NOT EXISTS (SELECT FROM pg_inherits i JOIN bulkhead.protected_tables p ON p.relation = i.inhparent WHERE i.inhrelid = c.oid)
                     ELSE c.oid = $1 END
          ORDER BY 2 LIMIT $2",
        &[relation.into(), (MAX_TABLES + 1).into()],
        |row| {
            Ok(Table {
                oid: row.get(1)?,
                name: row.get(2)?,
                column: row.get(3)?,
                attnum: row.get(4)?,
                kind: row.get(5)?,
                sealed: row.get(6)?,
                partitioned: row.get(7)?,
            })
        },
    )?;
    match relation {
        Some(relation) if tables.is_empty() => Err(error::state(
            format!("{} is not a protected table", security::relation_name(relation)),
            "There is no border in it to be crossed.",
            "SELECT * FROM bulkhead.protected_tables lists the protected tables.",
        )),
        _ => Ok(tables),
    }
}

pub struct Role {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub superuser: bool,
}

/// Roles that can log in, and those that they can become; superusers last.
pub fn roles() -> Result<Vec<Role>> {
    spi::rows(
        "SELECT r.oid, r.rolname::text, r.rolsuper FROM pg_roles r
          WHERE r.rolcanlogin
             OR EXISTS (SELECT FROM pg_roles l WHERE l.rolcanlogin AND NOT l.rolsuper AND pg_has_role(l.oid, r.oid, 'MEMBER'))
          ORDER BY r.rolsuper, r.rolname LIMIT $1",
        &[(MAX_ROLES + 1).into()],
        |row| Ok(Role { oid: row.get(1)?, name: row.get(2)?, superuser: row.get(3)? }),
    )
}

/// Whether the role has any right to the table or to one of its columns.
pub fn has_rights(role: &Role, table: &Table) -> Result<bool> {
    let any = spi::row(
        "SELECT has_table_privilege($1, $2, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
             OR has_any_column_privilege($1, $2, 'SELECT, INSERT, UPDATE')",
        &[role.oid.into(), table.oid.into()],
        |row| row.get(1),
    )?;
    Ok(any.unwrap_or(false))
}

/// A function of a role that is no superuser, in what the planner of any statement on the table looks at.
pub fn planned_function(table: &Table) -> Result<Option<String>> {
    let function = spi::row(
        "WITH RECURSIVE tree(oid) AS (
           SELECT $1 UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid),
         part(class, oid) AS (
           SELECT 'pg_class'::regclass, oid FROM tree
           UNION ALL SELECT 'pg_class'::regclass, x.indexrelid FROM pg_index x JOIN tree t ON t.oid = x.indrelid
           UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN tree t ON t.oid = k.conrelid
           UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN tree t ON t.oid = s.stxrelid)
         SELECT p.oid::regprocedure::text
           FROM part JOIN pg_depend d ON d.classid = part.class AND d.objid = part.oid
           LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
           JOIN pg_proc p ON p.oid = o.oprcode OR d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
           JOIN pg_roles r ON r.oid = p.proowner
          WHERE NOT r.rolsuper ORDER BY 1 LIMIT 1",
        &[table.oid.into()],
        |row| row.get(1),
    )?;
    Ok(function)
}

/// Some of the table's partitions and children.
pub fn children(table: &Table) -> Result<Vec<String>> {
    spi::rows(
        "WITH RECURSIVE tree(oid) AS (
           SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = $1
           UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid)
         SELECT format('%I.%I', n.nspname, c.relname) FROM tree JOIN pg_class c ON c.oid = tree.oid
           JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid LIMIT $2",
        &[table.oid.into(), MAX_CHILDREN.into()],
        |row| row.get(1),
    )
}

/// Parents that are not protected, through which the table's rows can be read.
pub fn parents(table: &Table) -> Result<Vec<String>> {
    spi::rows(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhrelid = $1 ORDER BY c.oid LIMIT $2",
        &[table.oid.into(), MAX_CHILDREN.into()],
        |row| row.get(1),
    )
}

/// Something that shows the table's rows in another way.
pub struct Reader {
    pub kind: String,
    pub name: String,
    /// What stands after FROM.
    pub from: String,
    /// It may write, so it is not called.
    pub volatile: bool,
}

/// Views over the table, at any depth, and SECURITY DEFINER functions without arguments that name it.
pub fn readers(table: &Table) -> Result<Vec<Reader>> {
    spi::rows(
        "WITH RECURSIVE reads(reader, kind) AS (
           SELECT w.ev_class, v.relkind FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
              AND w.ev_class <> $1 AND v.relkind IN ('v', 'm')
           UNION
           SELECT w.ev_class, v.relkind FROM reads r JOIN pg_depend d ON d.refobjid = r.reader JOIN pg_rewrite w ON w.oid = d.objid
             JOIN pg_class v ON v.oid = w.ev_class
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
              AND w.ev_class <> r.reader AND v.relkind IN ('v', 'm'))
         (SELECT 'view', v.oid::regclass::text, v.oid::regclass::text, false FROM reads r JOIN pg_class v ON v.oid = r.reader
           WHERE r.kind = 'v' ORDER BY 2 LIMIT $2)
         UNION ALL
         (SELECT 'function', p.oid::regprocedure::text, format('%I.%I()', n.nspname, p.proname), p.provolatile = 'v'
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_class c ON c.oid = $1
           WHERE p.prosecdef AND p.prokind = 'f' AND p.pronargs = 0 AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
             AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bulkhead')
             AND strpos(lower(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)), lower(c.relname)) > 0
           ORDER BY 2 LIMIT $2)",
        &[table.oid.into(), MAX_READERS.into()],
        |row| Ok(Reader { kind: row.get(1)?, name: row.get(2)?, from: row.get(3)?, volatile: row.get(4)? }),
    )
}
