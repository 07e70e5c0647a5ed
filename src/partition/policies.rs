//! A table's policies as statements, for a table that is to have the same.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::spi;

/// The role of that oid as GRANT and CREATE POLICY name it, in SQL.
pub fn grantee(oid: &str) -> String {
    format!("CASE WHEN {oid} = 0::oid THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid({oid})) END")
}

/// The policies of `from` for the table of the name `to`, which is quoted: those `p` of pg_policy for which `condition` holds, in which $3 is `argument`.
/// `print`: an expression of a policy, as the server keeps it, as SQL.
pub fn copied(
    from: pg_sys::Oid,
    to: &str,
    condition: &str,
    argument: DatumWithOid,
    print: impl Fn(&str) -> Result<String>,
) -> Result<Vec<String>> {
    let role = grantee("r");
    let found = spi::rows(
        &format!(
            "SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, $2::text,
                       CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                       (SELECT string_agg({role}, ', ') FROM unnest(p.polroles) r)),
                p.polqual::text, p.polwithcheck::text
           FROM pg_policy p WHERE p.polrelid = $1 AND {condition} ORDER BY p.polname"
        ),
        &[from.into(), to.into(), argument],
        |row| Ok((row.get::<String>(1)?, row.optional::<String>(2)?, row.optional::<String>(3)?)),
    )?;
    let mut statements = Vec::new();
    for (mut statement, using, check) in found {
        if let Some(using) = using {
            statement.push_str(&format!(" USING ({})", print(&using)?));
        }
        if let Some(check) = check {
            statement.push_str(&format!(" WITH CHECK ({})", print(&check)?));
        }
        statements.push(statement);
    }
    Ok(statements)
}
