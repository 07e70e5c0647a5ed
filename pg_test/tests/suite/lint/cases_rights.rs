//! The cases of roles, rights and settings. What outlives the database is named after it, and taken back.

use super::cases::Case;

pub const CASES: &[Case] = &[
    Case::new(
        "bypassrls-role",
        "warning",
        "{db}_job",
        "CREATE ROLE {db}_job LOGIN BYPASSRLS; GRANT SELECT (id) ON shop.comments TO {db}_job",
    )
    .mended()
    .unsealed()
    .undone("REVOKE ALL ON shop.comments FROM {db}_job; DROP ROLE {db}_job"),
    Case::new(
        "bypass-reachable",
        "warning",
        "{db}_a",
        "CREATE ROLE {db}_a LOGIN; CREATE ROLE {db}_b BYPASSRLS; GRANT {db}_b TO {db}_a",
    )
    .mended()
    .undone("DROP ROLE {db}_a; DROP ROLE {db}_b"),
    Case::new(
        "bypass-reachable",
        "warning",
        "{db}_a",
        "CREATE ROLE {db}_a LOGIN; GRANT pg_read_server_files TO {db}_a",
    )
    .mended()
    .undone("DROP ROLE {db}_a"),
    Case::new(
        "owner-can-log-in",
        "warning",
        "{db}_a",
        "CREATE ROLE {db}_a LOGIN; ALTER TABLE shop.comments OWNER TO {db}_a",
    )
    .undone("ALTER TABLE shop.comments OWNER TO shop_owner; DROP ROLE {db}_a"),
    Case::new("dangerous-grant", "warning", "shop.orders to app", "GRANT TRUNCATE, TRIGGER ON shop.orders TO app")
        .mended(),
    Case::new("dangerous-grant", "warning", "shop.orders to PUBLIC", "GRANT REFERENCES ON shop.orders TO PUBLIC")
        .mended(),
    Case::new(
        "extension-grant",
        "error",
        "bulkhead.lint_allow(text,text,text)",
        "GRANT EXECUTE ON FUNCTION bulkhead.lint_allow TO PUBLIC",
    )
    .mended(),
    Case::new("extension-grant", "error", "bulkhead.protection to app", "GRANT DELETE ON bulkhead.protection TO app")
        .mended(),
    Case::new(
        "sequence-readable",
        "info",
        "shop.comments_id_seq to app",
        "GRANT SELECT ON SEQUENCE shop.comments_id_seq TO app",
    )
    .mended(),
    Case::new("replication-role", "info", "{db}_r", "CREATE ROLE {db}_r REPLICATION").undone("DROP ROLE {db}_r"),
    Case::new(
        "context-mode-open",
        "warning",
        "database {db}",
        "ALTER DATABASE {db} SET bulkhead.context_mode = 'open'",
    )
    .mended(),
    Case::new(
        "context-mode-open",
        "warning",
        "bulkhead.context_mode",
        "ALTER DATABASE {db} SET bulkhead.context_mode = 'open'",
    ),
    Case::new(
        "missing-context-empty",
        "warning",
        "role app database {db}",
        "ALTER ROLE app IN DATABASE {db} SET bulkhead.missing_context = 'empty'",
    )
    .mended(),
    Case::new(
        "tenant-preset",
        "warning",
        "role app database {db}",
        "ALTER ROLE app IN DATABASE {db} SET bulkhead.tenant_context = 'h2o'",
    )
    .mended(),
    Case::new(
        "tenant-preset",
        "warning",
        "shop.cents(numeric)",
        "ALTER FUNCTION shop.cents SET bulkhead.tenant_context = 'h2o'",
    )
    .mended(),
    Case::new("event-trigger-off", "error", "bulkhead_follow_ddl", "ALTER EVENT TRIGGER bulkhead_follow_ddl ENABLE")
        .mended(),
    Case::new(
        "event-trigger-off",
        "error",
        "announce on bulkhead.protection",
        "ALTER TABLE bulkhead.protection DISABLE TRIGGER announce",
    )
    .mended(),
];
