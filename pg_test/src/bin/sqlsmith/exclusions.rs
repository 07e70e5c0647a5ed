//! What a random query may not mention, and why: the only list of it. A statement with such a name is not sent, and is counted.

/// Which roles are kept from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Everybody,
    /// Who is no superuser has no right to it, and tries.
    Superuser,
    /// Roles that row level security does not bind, and owners, to whom an index on an expression is a table without policies.
    NotPlain,
}

struct Excluded {
    who: For,
    why: &'static str,
    /// Whole words; with a star at the end, beginnings of words.
    names: &'static [&'static str],
}

const ALL: [Excluded; 6] = [
    Excluded {
        who: For::NotPlain,
        why: "the server's statistics hold values of all rows, and no query on the table brings them (docs/seal.md)",
        names: &["pg_statistic", "pg_statistic_ext_data", "pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"],
    },
    Excluded {
        who: For::Superuser,
        why: "whole schemas as XML: pg_statistic is among them",
        names: &["database_to_xml*", "schema_to_xml*", "table_to_xml*"],
    },
    Excluded {
        who: For::Superuser,
        why: "after a bypass foreign rows are legal; bulkhead.bypass is a setting, too",
        names: &["begin_bypass", "set_config"],
    },
    Excluded {
        who: For::Superuser,
        why: "the server's files hold all rows (docs/threat-model.md)",
        names: &["pg_read_file*", "pg_read_binary_file*", "lo_import", "be_lo_import*", "lo_export", "be_lo_export"],
    },
    Excluded {
        who: For::Superuser,
        why: "ends or fills what the run stands on: sessions, the log, the disk",
        names: &[
            "pg_terminate_backend",
            "pg_cancel_backend",
            "pg_rotate_logfile*",
            "pg_log_backend_memory_contexts",
            "pg_promote",
            "pg_switch_wal",
            "pg_create_physical_replication_slot",
            "pg_create_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_copy_logical_replication_slot",
            "pg_start_backup",
            "pg_backup_start",
            "pg_logical_emit_message",
        ],
    },
    Excluded { who: For::Everybody, why: "only takes time", names: &["pg_sleep*"] },
];

/// Why this role does not send the statement.
pub fn reason(role: &str, statement: &str) -> Option<&'static str> {
    let words = || statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let meant = |who: For| match who {
        For::Everybody => true,
        For::Superuser => role == "postgres",
        For::NotPlain => role != "app",
    };
    let is_named = |name: &&str| match name.strip_suffix('*') {
        Some(beginning) => words().any(|word| word.starts_with(beginning)),
        None => words().any(|word| word == *name),
    };
    ALL.iter().find(|excluded| meant(excluded.who) && excluded.names.iter().any(&is_named)).map(|excluded| excluded.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_count() {
        assert!(reason("postgres", "select bulkhead.begin_bypass(x) from t").is_some());
        assert!(reason("app", "select bulkhead.begin_bypass(x) from t").is_none());
        assert!(reason("svc", "select * from pg_catalog.pg_stats as ref_0").is_some());
        assert!(reason("postgres", "select pg_statistics_of(1), pg_stats_old").is_none());
        assert!(reason("app", "select pg_catalog.pg_sleep_for(x)").is_some());
    }
}
