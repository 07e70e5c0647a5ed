//! What a new partition gets beside its columns: the parent's policies and rights, the newest sibling's storage settings and the unique
//! indexes that only partitions have. As statements, for the table's owner to run.

use pgrx::prelude::*;

use super::policies::{self, grantee};
use super::table::Table;
use crate::error::Result;
use crate::pg::{expression, spi};
use crate::rls;

pub struct Storage {
    /// `UNLOGGED ` or nothing.
    pub unlogged: &'static str,
    /// What comes after the columns.
    pub clauses: String,
}

/// Access method, storage parameters, tablespace and persistence of the newest sibling; of the parent what it has.
pub fn storage(table: &Table) -> Result<Storage> {
    let sibling = table.newest().map(|leaf| leaf.oid);
    let found = spi::row(
        "SELECT coalesce(s.relpersistence, p.relpersistence)::text, quote_ident(m.amname),
                quote_ident(coalesce(pt.spcname, st.spcname)),
                (SELECT string_agg(format('%s = %L', quote_ident(split_part(o, '=', 1)), substr(o, strpos(o, '=') + 1)), ', ')
                   FROM unnest(s.reloptions) o),
                (SELECT string_agg(format('toast.%s = %L', quote_ident(split_part(o, '=', 1)), substr(o, strpos(o, '=') + 1)), ', ')
                   FROM unnest(t.reloptions) o)
           FROM pg_class p LEFT JOIN pg_class s ON s.oid = $2 LEFT JOIN pg_class t ON t.oid = s.reltoastrelid AND t.oid <> 0::oid
           LEFT JOIN pg_am m ON m.oid = s.relam LEFT JOIN pg_tablespace pt ON pt.oid = p.reltablespace
           LEFT JOIN pg_tablespace st ON st.oid = s.reltablespace
          WHERE p.oid = $1",
        &[table.oid.into(), sibling.into()],
        |row| {
            let texts = (row.optional::<String>(2)?, row.optional::<String>(3)?);
            Ok((row.get::<String>(1)?, texts, row.optional::<String>(4)?, row.optional::<String>(5)?))
        },
    )?;
    let Some((persistence, (method, space), options, toast)) = found else {
        return Ok(Storage { unlogged: "", clauses: String::new() });
    };
    let mut clauses = String::new();
    if let Some(method) = method {
        clauses.push_str(&format!(" USING {method}"));
    }
    let own = (!table.managed.leaf_options.is_empty()).then(|| table.managed.leaf_options.join(", "));
    let options: Vec<String> = own.map_or_else(|| options.into_iter().chain(toast).collect(), |own| vec![own]);
    if !options.is_empty() {
        clauses.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if let Some(space) = space {
        clauses.push_str(&format!(" TABLESPACE {space}"));
    }
    Ok(Storage { unlogged: if persistence == "u" { "UNLOGGED " } else { "" }, clauses })
}

/// Before the partition is attached: from then on it can be reached by its own name.
pub fn before(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let mut statements = policies(table, name, leaf)?;
    statements.extend(row_security(table, name, leaf, rls::row_security(table.oid)?)?);
    statements.extend(rights(table, name, leaf)?);
    statements.extend(column_settings(table, name)?);
    statements.extend(indexes(table, name, leaf)?);
    Ok(statements)
}

/// After it: what has come with protection otherwise, and what names indexes that came with the parent's.
pub fn after(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let mut statements = row_security(table, name, leaf, (true, true))?;
    statements.extend(replica_identity(table, name, leaf)?);
    Ok(statements)
}

fn replica_identity(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let Some(sibling) = table.newest() else { return Ok(Vec::new()) };
    spi::rows(
        "SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', $3::text,
                       CASE s.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE 'USING INDEX ' || quote_ident(x.relname) END)
           FROM pg_class s
           LEFT JOIN (pg_index si JOIN pg_inherits sp ON sp.inhrelid = si.indexrelid
                      JOIN pg_inherits lp ON lp.inhparent = sp.inhparent JOIN pg_index li ON li.indexrelid = lp.inhrelid AND li.indrelid = $2
                      JOIN pg_class x ON x.oid = li.indexrelid)
             ON si.indrelid = s.oid AND si.indisreplident
          WHERE s.oid = $1 AND (s.relreplident IN ('f', 'n') OR s.relreplident = 'i' AND x.oid IS NOT NULL)",
        &[sibling.oid.into(), leaf.into(), name.into()],
        |row| row.get(1),
    )
}

fn policies(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let lacking = "NOT EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = $3 AND o.polname = p.polname)";
    policies::copied(table.oid, name, lacking, leaf.into(), |kept| expression::translate(kept, table.oid, leaf))
}

/// Row level security and FORCE, if they are wanted, as the parent has them. Before the partition is attached they are what the parent has
/// by itself: what protect() gives the partition in that moment, unprotect() takes from it.
fn row_security(table: &Table, name: &str, leaf: pg_sys::Oid, wanted: (bool, bool)) -> Result<Vec<String>> {
    spi::rows(
        "SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', $3::text, w.word)
           FROM pg_class p JOIN pg_class l ON l.oid = $2
           CROSS JOIN LATERAL (VALUES ('ENABLE', $4 AND p.relrowsecurity AND NOT l.relrowsecurity),
                                      ('FORCE', $5 AND p.relforcerowsecurity AND NOT l.relforcerowsecurity)) w(word, wanted)
          WHERE p.oid = $1 AND w.wanted",
        &[table.oid.into(), leaf.into(), name.into(), wanted.0.into(), wanted.1.into()],
        |row| row.get(1),
    )
}

/// The difference between the rights that default privileges gave and those that the parent's have, of the table and of its columns.
fn rights(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let grantee = grantee("s.grantee");
    spi::rows(
        &format!("WITH wanted AS (
           SELECT a.grantee, a.privilege_type, bool_or(a.is_grantable) AS grantable, NULL::name AS on_column
             FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = $1 GROUP BY 1, 2
           UNION ALL
           SELECT a.grantee, a.privilege_type, bool_or(a.is_grantable), t.attname
             FROM pg_attribute t CROSS JOIN aclexplode(t.attacl) a
            WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped GROUP BY 1, 2, 4),
         there AS (
           SELECT a.grantee, a.privilege_type, bool_or(a.is_grantable) AS grantable, NULL::name AS on_column
             FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = $2 GROUP BY 1, 2
           UNION ALL
           SELECT a.grantee, a.privilege_type, bool_or(a.is_grantable), t.attname
             FROM pg_attribute t CROSS JOIN aclexplode(t.attacl) a
            WHERE t.attrelid = $2 AND t.attnum > 0 AND NOT t.attisdropped GROUP BY 1, 2, 4),
         step AS (
           SELECT 1 AS turn, 'REVOKE %s%s ON %s FROM %s%s' AS form, grantee, privilege_type, on_column, false AS grantable
             FROM (SELECT * FROM there EXCEPT SELECT * FROM wanted) surplus
           UNION ALL
           SELECT 2, 'GRANT %s%s ON %s TO %s%s', grantee, privilege_type, on_column, grantable
             FROM (SELECT * FROM wanted EXCEPT SELECT * FROM there) lacking)
         SELECT format(s.form, s.privilege_type, CASE WHEN s.on_column IS NULL THEN '' ELSE format(' (%I)', s.on_column) END, $3::text,
                       {grantee},
                       CASE WHEN s.grantable AND s.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END)
           FROM step s JOIN pg_class c ON c.oid = $2 ORDER BY s.turn, s.grantee, s.privilege_type, s.on_column"),
        &[table.oid.into(), leaf.into(), name.into()],
        |row| row.get(1),
    )
}

/// Statistics targets and the like, which LIKE does not copy.
fn column_settings(table: &Table, name: &str) -> Result<Vec<String>> {
    let Some(sibling) = table.newest() else { return Ok(Vec::new()) };
    spi::rows(
        "SELECT format('ALTER TABLE %s ALTER COLUMN %I SET %s', $2::text, a.attname, s.setting)
           FROM pg_attribute a
           CROSS JOIN LATERAL (
             VALUES ('STATISTICS ' || nullif(a.attstattarget, -1)),
                    ('(' || (SELECT string_agg(format('%s = %L', quote_ident(split_part(o, '=', 1)), substr(o, strpos(o, '=') + 1)), ', ')
                               FROM unnest(a.attoptions) o WHERE starts_with(o, 'n_distinct')) || ')')) s(setting)
          WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND s.setting IS NOT NULL ORDER BY a.attnum",
        &[sibling.oid.into(), name.into()],
        |row| row.get(1),
    )
}

/// Uniqueness within a partition: constraints and unique indexes that the newest sibling has and the parent has not.
fn indexes(table: &Table, name: &str, leaf: pg_sys::Oid) -> Result<Vec<String>> {
    let Some(sibling) = table.newest() else { return Ok(Vec::new()) };
    let keyed = !table.managed.leaf_key.is_empty();
    spi::rows(
        "SELECT CASE WHEN k.oid IS NOT NULL THEN format('ALTER TABLE %s ADD %s', $3::text, pg_get_constraintdef(k.oid))
                     ELSE format('CREATE UNIQUE INDEX ON %s %s', $3::text,
                                 substr(pg_get_indexdef(x.indexrelid),
                                        length(format('CREATE UNIQUE INDEX %I ON %I.%I ', i.relname, n.nspname, s.relname)) + 1)) END
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class s ON s.oid = x.indrelid
           JOIN pg_namespace n ON n.oid = s.relnamespace
           LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = s.oid AND k.contype IN ('p', 'u', 'x')
          WHERE x.indrelid = $1 AND x.indisvalid AND (x.indisunique OR k.contype = 'x')
            AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = x.indexrelid)
            AND NOT (x.indisprimary AND $4)
            AND NOT EXISTS (SELECT FROM pg_index l WHERE l.indrelid = $2 AND l.indisunique)
          ORDER BY x.indexrelid",
        &[sibling.oid.into(), leaf.into(), name.into(), keyed.into()],
        |row| row.get(1),
    )
}
