//! What the parent takes over from the table, beside its columns and keys, and what a person has to look at.

use pgrx::prelude::*;

use super::super::policies::{self, grantee};
use crate::error::Result;
use crate::pg::{expression, spi};
use crate::rls;

/// The table that is to become a partition. Names with a schema are quoted, those without are as they are.
pub struct Old {
    pub oid: pg_sys::Oid,
    /// What it is called now; in the end the parent's name.
    pub name: String,
    /// What it will be called.
    pub old_name: String,
    /// What the parent is called until then.
    pub new_name: String,
    pub relname: String,
    pub old_relname: String,
    pub new_relname: String,
    /// The control column, quoted.
    pub column: String,
    pub number: i16,
    pub not_null: bool,
}

/// Comments on what no statement can decide.
pub fn remarks(old: &Old) -> Result<Vec<String>> {
    spi::rows(
        "SELECT '-- look at ' || r.remark FROM (
           SELECT 1, format('view %s: it reads the table by its identity, and will read %s only; create it anew after the swap', v.oid::regclass, $2::text)
             FROM pg_class v WHERE v.relkind IN ('v', 'm')
              AND v.oid IN (SELECT w.ev_class FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND w.ev_class <> $1)
           UNION ALL
           SELECT 2, format('foreign key %I of %s: it refers to a key that the partitioned table can only have together with %s; drop it first',
                            k.conname, k.conrelid::regclass, $3::text)
             FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = $1
           UNION ALL
           SELECT 3, format('%s %I: it is NOT VALID, which a partitioned table''s cannot be; validate it first',
                            CASE k.contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END, k.conname)
             FROM pg_constraint k WHERE k.conrelid = $1 AND NOT k.convalidated
           UNION ALL
           SELECT 4, format('publication %I: before the swap, ALTER PUBLICATION %I ADD TABLE %s, and SET (publish_via_partition_root = true); else subscribers get the rows of %s, which they do not have',
                            p.pubname, p.pubname, $4::text, $2::text)
             FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = $1
           UNION ALL
           SELECT 4, format('publication %I: before the swap, ALTER PUBLICATION %I SET (publish_via_partition_root = true); else subscribers get the rows of %s, which they do not have',
                            p.pubname, p.pubname, $2::text)
             FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
             JOIN pg_class c ON c.oid = $1 AND c.relname = t.tablename JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname
            WHERE NOT p.pubviaroot AND NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = $1)
           UNION ALL
           SELECT DISTINCT 7, format('%s %s: it knows the table, or its row type, by identity, and stays with %s; make it anew after the swap', o.type, o.identity, $2::text)
             FROM pg_class c JOIN pg_type y ON y.oid = c.reltype
             JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.classid IN ('pg_proc'::regclass, 'pg_policy'::regclass)
               OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray) AND d.deptype = 'n'
             CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) o
            WHERE c.oid = $1 AND NOT EXISTS (SELECT FROM pg_policy p WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND p.polrelid = c.oid)
           UNION ALL
           SELECT 5, format('rule %I: rules are not taken over', w.rulename) FROM pg_rewrite w WHERE w.ev_class = $1
           UNION ALL
           SELECT 6, format('trigger %I: %s', t.tgname,
                            CASE WHEN t.tgconstraint <> 0::oid THEN 'a constraint trigger is not taken over'
                                 ELSE 'a row trigger with transition tables cannot be on a partitioned table' END)
             FROM pg_trigger t WHERE t.tgrelid = $1 AND NOT t.tgisinternal
              AND (t.tgconstraint <> 0::oid OR t.tgtype & 1 = 1 AND (t.tgnewtable IS NOT NULL OR t.tgoldtable IS NOT NULL))) r(turn, remark)
          ORDER BY r.turn, r.remark",
        &[old.oid.into(), old.old_name.as_str().into(), old.column.as_str().into(), old.new_name.as_str().into()],
        |row| row.get(1),
    )
}

/// LIKE takes over the comments on columns only. None that is not ASCII, in a database that is not UTF8.
pub fn comment(old: &Old) -> Result<Option<String>> {
    spi::row(
        "SELECT format('COMMENT ON TABLE %s IS %L', $2::text, o.comment) FROM obj_description($1::oid, 'pg_class') o(comment)
          WHERE o.comment IS NOT NULL AND (getdatabaseencoding() = 'UTF8' OR encode(textsend(o.comment), 'hex') !~ '^(..)*[89a-f]')",
        &[old.oid.into(), old.new_name.as_str().into()],
        |row| row.get(1),
    )
}

/// Owner and grants. What default privileges give the new table and the old one has not is taken away.
pub fn rights(old: &Old) -> Result<Vec<String>> {
    let grantee = grantee("a.grantee");
    spi::rows(
        &format!("WITH old AS (SELECT c.relowner, c.relnamespace, c.relacl FROM pg_class c WHERE c.oid = $1),
         step(turn, statement) AS (
           SELECT 1, format('ALTER TABLE %s OWNER TO %I', $2::text, pg_get_userbyid(o.relowner))
             FROM old o WHERE pg_get_userbyid(o.relowner) <> current_user
           UNION
           SELECT 2, format('REVOKE ALL ON %s FROM %s', $2::text, {grantee})
             FROM old o JOIN pg_default_acl d ON d.defaclrole IN (o.relowner, (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user))
              AND d.defaclobjtype = 'r' AND d.defaclnamespace IN (0::oid, o.relnamespace)
             CROSS JOIN LATERAL aclexplode(d.defaclacl) a WHERE a.grantee <> o.relowner
           UNION
           SELECT 3, format('GRANT %s ON %s TO %s%s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), $2::text,
                            {grantee},
                            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM old o CROSS JOIN LATERAL aclexplode(o.relacl) a WHERE a.grantee <> o.relowner GROUP BY a.grantee, a.is_grantable
           UNION
           SELECT 4, format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, $2::text,
                            {grantee},
                            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
             FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE t.attrelid = $1 AND NOT t.attisdropped)
         SELECT s.statement FROM step s ORDER BY s.turn, s.statement"),
        &[old.oid.into(), old.new_name.as_str().into()],
        |row| row.get(1),
    )
}

/// What a policy's sub-selects read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The table itself: the policy can be made only when the new parent has its name, or it would go on reading the old one.
    Itself,
    Others,
}

/// The table's own policies, and with those that are made before the swap its own row level security. What protect() and share() gave comes by these.
pub fn policies(old: &Old, which: Reads) -> Result<Vec<String>> {
    let (name, relname) = match which {
        Reads::Itself => (&old.name, &old.relname),
        Reads::Others => (&old.new_name, &old.new_relname),
    };
    let wanted = "p.polname NOT LIKE 'bulkhead\\_%' AND $3 = (concat(p.polqual, p.polwithcheck) ~ format(':relid %s\\M', $1::oid))";
    let reads_itself = (which == Reads::Itself).into();
    let mut plan =
        policies::copied(old.oid, name, wanted, reads_itself, |kept| expression::print(kept, old.oid, relname))?;
    if which == Reads::Itself {
        return Ok(plan);
    }
    let (enabled, forced) = rls::row_security(old.oid)?;
    let security = spi::rows(
        "SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', $2::text, w.word) FROM pg_class c
           CROSS JOIN LATERAL (VALUES (1, 'ENABLE', $3 AND c.relrowsecurity), (2, 'FORCE', $4 AND c.relforcerowsecurity)) w(turn, word, wanted)
          WHERE c.oid = $1 AND w.wanted ORDER BY w.turn",
        &[old.oid.into(), old.new_name.as_str().into(), enabled.into(), forced.into()],
        |row| row.get(1),
    )?;
    plan.extend(security);
    Ok(plan)
}

/// The same ones as the table has; at the swap the table's own become parts of them.
pub fn foreign_keys(old: &Old) -> Result<Vec<String>> {
    spi::rows(
        "SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2::text, k.conname, pg_get_constraintdef(k.oid))
           FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = $1 ORDER BY k.conname",
        &[old.oid.into(), old.new_name.as_str().into()],
        |row| row.get(1),
    )
}

/// The parent goes on counting where the table is, and owns what it counts with.
pub fn sequences(old: &Old) -> Result<Vec<String>> {
    let grantee = grantee("a.grantee");
    spi::rows(
        &format!("SELECT s.statement FROM (
           SELECT a.attnum, d.deptype, format('%I.%I', n.nspname, q.relname) AS sequence, q.relname, q.relacl, q.relowner, a.attname
             FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' JOIN pg_namespace n ON n.oid = q.relnamespace
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.deptype IN ('a', 'i')) o
           CROSS JOIN LATERAL (VALUES
             (1, o.deptype = 'a', format('ALTER SEQUENCE %s OWNED BY %s.%I', o.sequence, $2::text, o.attname)),
             (1, o.deptype = 'i', format('PERFORM pg_catalog.setval(pg_catalog.pg_get_serial_sequence(%L, %L), s.last_value, s.is_called) FROM %s s',
                                         $2::text, o.attname, o.sequence)),
             (2, o.deptype = 'i', format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', $3::text, o.attname)),
             (3, o.deptype = 'i', format('EXECUTE pg_catalog.format(''ALTER SEQUENCE %%s RENAME TO %%I'', pg_catalog.pg_get_serial_sequence(%L, %L), %L)',
                                         $2::text, o.attname, o.relname))
             UNION ALL
             SELECT 4, o.deptype = 'i', format('GRANT %s ON SEQUENCE %s TO %s%s', a.privilege_type, o.sequence,
                            {grantee},
                            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
               FROM aclexplode(o.relacl) a WHERE a.grantee <> o.relowner) s(turn, wanted, statement)
          WHERE s.wanted ORDER BY o.attnum, s.turn, s.statement"),
        &[old.oid.into(), old.name.as_str().into(), old.old_name.as_str().into()],
        |row| row.get(1),
    )
}

/// The triggers move to the parent, whose row triggers the server gives to each partition.
pub fn triggers(old: &Old) -> Result<Vec<String>> {
    spi::rows(
        "SELECT s.statement FROM pg_trigger t
           CROSS JOIN LATERAL (VALUES
             (1, true, format('DROP TRIGGER %I ON %s', t.tgname, $3::text)),
             (2, true, pg_get_triggerdef(t.oid)),
             (3, t.tgenabled <> 'O', format('ALTER TABLE %s %s TRIGGER %I', $2::text,
                 CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname))) s(turn, wanted, statement)
          WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND s.wanted AND t.tgconstraint = 0::oid
            AND NOT (t.tgtype & 1 = 1 AND (t.tgnewtable IS NOT NULL OR t.tgoldtable IS NOT NULL))
          ORDER BY t.tgname, s.turn",
        &[old.oid.into(), old.name.as_str().into(), old.old_name.as_str().into()],
        |row| row.get(1),
    )
}

/// A running autovacuum keeps the table's lock from being had, and gives way only to who waits for longer than the plan does: to the
/// first of these, which holds up nobody else. The second undoes it.
pub fn vacuum(old: &Old) -> Result<(String, String)> {
    let setting = spi::row(
        "SELECT (SELECT substr(o, 20) FROM unnest(c.reloptions) o WHERE starts_with(o, 'autovacuum_enabled=')) FROM pg_class c WHERE c.oid = $1",
        &[old.oid.into()],
        |row| row.optional::<String>(1),
    )?;
    let with = match setting.flatten() {
        Some(value) => format!("SET (autovacuum_enabled = {})", spi::literal(&value)),
        None => "RESET (autovacuum_enabled)".to_owned(),
    };
    Ok((
        format!("ALTER TABLE {} SET (autovacuum_enabled = false)", old.name),
        format!("ALTER TABLE {} {with}", old.old_name),
    ))
}
