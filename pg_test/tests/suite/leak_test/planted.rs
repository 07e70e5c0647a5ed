//! Leaks that are planted one at a time, where nothing is preloaded: what row level security alone has to hold.

use libtest_mimic::Trial;
use pg_test::Database;

use crate::harness::{WithoutPreload, trial_named};

struct Leak {
    name: &'static str,
    /// Run by a superuser.
    plant: &'static str,
    /// Who gets through, and by which attempts at least.
    role: &'static str,
    attempts: &'static [&'static str],
}

/// What all stand on: the owner's tables, protected, with rights for app and svc.
const GROUND: &str = "
    SET ROLE owner;
    CREATE TABLE orders (id bigserial PRIMARY KEY, tenant_id uuid NOT NULL, item text NOT NULL);
    CREATE TABLE events (tenant_id uuid NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE events_2020 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    SELECT bulkhead.protect('orders'), bulkhead.protect('events');
    RESET ROLE;
    GRANT EXECUTE ON FUNCTION bulkhead.lint_allow TO owner;";

const LEAKS: &[Leak] = &[
    Leak {
        name: "a_permissive_policy_without_the_floor",
        plant: "DROP POLICY bulkhead_floor ON orders; CREATE POLICY evil ON orders USING (true)",
        role: "app",
        attempts: &[
            "select",
            "join",
            "with",
            "prepared",
            "cursor",
            "count",
            "update where",
            "delete all",
            "insert",
            "move",
        ],
    },
    Leak {
        name: "row_level_security_disabled",
        plant: "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        role: "app",
        attempts: &[
            "select",
            "condition",
            "select without tenant",
            "insert",
            "insert on conflict",
            "delete without tenant",
        ],
    },
    Leak {
        name: "not_forced",
        plant: "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY",
        role: "owner",
        attempts: &["select", "update all", "delete where"],
    },
    Leak {
        name: "a_second_parent",
        plant: "CREATE TABLE everything (id bigint NOT NULL, item text NOT NULL); GRANT SELECT ON everything TO app;
                ALTER EVENT TRIGGER bulkhead_follow_ddl DISABLE; ALTER TABLE orders INHERIT everything",
        role: "app",
        attempts: &["parent public.everything"],
    },
    Leak {
        name: "a_security_definer_function",
        plant: "CREATE FUNCTION all_orders() RETURNS bigint STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT count(*) FROM public.orders'",
        role: "app",
        attempts: &["function public.all_orders()"],
    },
    Leak {
        name: "a_view_of_a_superusers",
        plant: "CREATE VIEW inner_orders AS SELECT item FROM orders; CREATE VIEW outer_orders AS TABLE inner_orders;
                GRANT SELECT ON outer_orders TO app",
        role: "app",
        attempts: &["view public.outer_orders"],
    },
    Leak {
        name: "policies_for_another_role",
        plant: "ALTER POLICY bulkhead_floor ON orders TO svc; CREATE POLICY own ON orders TO app USING (item <> '')",
        role: "app",
        attempts: &["select", "select where", "subquery", "for update"],
    },
    Leak {
        name: "a_floor_that_checks_no_writes",
        plant: "ALTER POLICY bulkhead_floor ON orders WITH CHECK (true); ALTER POLICY bulkhead_tenant ON orders WITH CHECK (true)",
        role: "app",
        attempts: &["insert", "move"],
    },
    Leak {
        name: "a_bypassrls_role",
        plant: "SELECT 1",
        role: "svc",
        attempts: &[
            "select",
            "select without tenant",
            "aggregate",
            "function",
            "insert",
            "merge delete",
            "delete with",
        ],
    },
    Leak {
        name: "rights_to_a_column_only",
        plant: "REVOKE ALL ON orders FROM app; GRANT SELECT (id) ON orders TO app; ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        role: "app",
        attempts: &["count"],
    },
    Leak {
        name: "a_trigger_that_writes_others_rows",
        plant: "CREATE FUNCTION meddle() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql
                  AS 'BEGIN UPDATE public.orders SET item = item WHERE id <> NEW.id; RETURN NULL; END';
                CREATE TRIGGER meddle AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION meddle()",
        role: "app",
        attempts: &["insert own"],
    },
    Leak {
        name: "a_partition_laid_open",
        plant: "ALTER TABLE events_2020 DISABLE ROW LEVEL SECURITY",
        role: "app",
        attempts: &["select public.events_2020", "delete public.events_2020"],
    },
    Leak { name: "truncate_granted", plant: "GRANT TRUNCATE ON orders TO app", role: "app", attempts: &["truncate"] },
];

pub fn tests() -> Vec<Trial> {
    let trial = |leak: &'static Leak| {
        trial_named(format!("leak_test::planted::{}", leak.name), move |db: WithoutPreload| is_found(db, leak))
    };
    LEAKS.iter().map(trial).collect()
}

async fn is_found(db: WithoutPreload, leak: &Leak) {
    let db: &Database = &db;
    db.admin(GROUND).unwrap();
    let admin = db.connect("postgres").await;
    let leaked = async || {
        admin
            .column(&format!(
                "SELECT attempt FROM bulkhead.leak_test() WHERE role = '{}' AND result = 'leaked' AND detail <> ''",
                leak.role
            ))
            .await
    };
    let before = leaked().await;
    db.admin(leak.plant).unwrap();
    let after = leaked().await;
    for attempt in leak.attempts {
        // Without preloading, nothing binds a BYPASSRLS role to begin with.
        assert!(leak.role == "svc" || !before.iter().any(|a| a == attempt), "before: {attempt}");
        assert!(after.iter().any(|a| a == attempt), "{attempt} is not in {after:?}");
    }
}
