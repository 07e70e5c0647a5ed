//! Indexes and unique keys: what a partitioned table can have of them, and what the table needs for it.

use super::super::name;
use super::parts::Old;
use crate::error::Result;
use crate::pg::spi;

pub struct Keys {
    /// Before the swap.
    pub prepare: Vec<String>,
    /// In it, when the names have changed.
    pub swap: Vec<String>,
    /// Indexes of the table that have to be there by then; their names.
    pub built: Vec<String>,
}

struct Index {
    name: String,
    unique: bool,
    primary: bool,
    /// Only columns, no condition.
    plain: bool,
    has_control: bool,
    /// `USING btree (...) ...`.
    definition: String,
    /// The columns of the key, quoted.
    columns: String,
    /// The constraint behind it, and its definition.
    constraint: Option<(String, String)>,
    exclusion: bool,
}

pub fn of(old: &Old) -> Result<Keys> {
    let mut keys = Keys { prepare: Vec::new(), swap: Vec::new(), built: Vec::new() };
    let mut made = 0;
    for index in indexes(old)? {
        let new = &old.new_name;
        if index.exclusion || index.unique && !index.plain && !index.has_control {
            keys.prepare.push(format!(
                "-- look at index {}: it stays within the first partition, and each new one gets its like",
                index.name
            ));
        } else if !index.unique || index.has_control {
            keys.prepare.push(match &index.constraint {
                Some((_, definition)) => format!("ALTER TABLE {new} ADD {definition}"),
                None => {
                    format!("CREATE {}INDEX ON {new} {}", if index.unique { "UNIQUE " } else { "" }, index.definition)
                }
            });
        } else {
            made += 1;
            let built = name::with_suffix(&old.relname, &format!("_key{made}"));
            let unique = spi::identifier(&built);
            keys.built.push(built);
            let columns = format!("{}, {}", index.columns, old.column);
            let alone = if index.primary { "may then repeat" } else { "stays unique within each partition" };
            keys.prepare
                .push(format!("-- look at key ({0}): it becomes ({columns}); ({0}) alone {alone}", index.columns));
            keys.prepare.push(format!("CREATE UNIQUE INDEX CONCURRENTLY {unique} ON {} ({columns})", old.name));
            match (&index.constraint, index.primary) {
                (Some((constraint, _)), true) => {
                    keys.prepare.push(format!("ALTER TABLE {new} ADD PRIMARY KEY ({columns})"));
                    keys.swap.push(format!(
                        "ALTER TABLE {0} DROP CONSTRAINT {1}, ADD CONSTRAINT {1} PRIMARY KEY USING INDEX {unique}",
                        old.old_name, constraint
                    ));
                }
                _ => keys.prepare.push(format!("CREATE UNIQUE INDEX ON {new} ({columns})")),
            }
        }
    }
    Ok(keys)
}

fn indexes(old: &Old) -> Result<Vec<Index>> {
    spi::rows(
        "SELECT quote_ident(i.relname), x.indisunique, x.indisprimary,
                x.indexprs IS NULL AND x.indpred IS NULL,
                $2 = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]),
                substr(pg_get_indexdef(i.oid),
                       length(format('CREATE %sINDEX %I ON %I.%I ', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
                                     i.relname, n.nspname, t.relname)) + 1),
                coalesce((SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY p.place)
                   FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) WITH ORDINALITY p(number, place)
                   JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = p.number), ''),
                quote_ident(k.conname), pg_get_constraintdef(k.oid), coalesce(k.contype = 'x', false)
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
           JOIN pg_namespace n ON n.oid = t.relnamespace
           LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
          WHERE x.indrelid = $1 AND x.indisvalid AND x.indisready ORDER BY x.indisprimary DESC, i.relname",
        &[old.oid.into(), old.number.into()],
        |row| {
            Ok(Index {
                name: row.get(1)?,
                unique: row.get(2)?,
                primary: row.get(3)?,
                plain: row.get(4)?,
                has_control: row.get(5)?,
                definition: row.get(6)?,
                columns: row.get(7)?,
                constraint: row.optional::<String>(8)?.zip(row.optional::<String>(9)?),
                exclusion: row.get(10)?,
            })
        },
    )
}
