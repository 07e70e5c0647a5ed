//! The schema of the differential tests, twice: sealed with the rows of three tenants, and plain with the rows of the first.

use pg_test::{Client, Database};

/// One kind of tenant ids, and the types of the tenant columns that can hold it.
pub struct Kind {
    pub tenants: [&'static str; 3],
    /// Of t0, kid and heir; of t1; of t2; of t3; of parts.
    types: [&'static str; 5],
    domains: &'static str,
}

pub const UUIDS: Kind = Kind {
    tenants: [super::A, super::B, "c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    types: ["uuid", "text", "varchar(64)", "label", "ident"],
    domains: "CREATE DOMAIN ident AS uuid; CREATE DOMAIN label0 AS text; CREATE DOMAIN label AS label0",
};

pub const NUMBERS: Kind = Kind {
    tenants: ["42", "-7", "2147483647"],
    types: ["bigint", "int", "varchar(64)", "number", "text"],
    domains: "CREATE DOMAIN number AS int",
};

/// The tables that hold rows of tenants and can be named in a statement that writes, with the protected ones first.
pub const TABLES: [&str; 7] = ["t0", "kid", "t1", "t2", "t3", "parts", "heir"];
/// Those, their partitions and children, views and functions: anything that yields the columns of a table.
pub const SOURCES: [&str; 36] = [
    "t0",
    "kid",
    "t1",
    "t2",
    "t3",
    "parts",
    "heir",
    "ONLY heir",
    "ONLY parts",
    "heir_child",
    "parts_low",
    "parts_mid",
    "parts_mid_0",
    "parts_mid_1",
    "parts_rest",
    "free",
    "price",
    "plain_view",
    "deep_view",
    "barrier",
    "owners_view",
    "invoker",
    "unioned",
    "inlined()",
    "atomic()",
    "chain()",
    "procedural()",
    "deputy()",
    "deputy_inlined()",
    "below(5)",
    "below(3)",
    "dynamic()",
    "variadic_one(1, 2, 3)",
    "t0",
    "t1",
    "parts",
];

impl Kind {
    /// The sealed database's tables, rows and protection.
    pub async fn fill_sealed(&self, db: &Database) {
        self.create(db);
        self.rows(db, &self.tenants);
        let mut script = String::new();
        for table in TABLES {
            script.push_str(&format!("SELECT bulkhead.protect('{table}');\n"));
        }
        script.push_str("SELECT bulkhead.share('price');\n");
        db.past_the_seal("owner").await.run(&script).await;
        db.admin("REVOKE EXECUTE ON FUNCTION bulkhead.begin_bypass(text) FROM owner").unwrap();
    }

    /// The plain one's: the first tenant has it for itself.
    pub fn fill_plain(&self, db: &Database) {
        db.admin("GRANT ALL ON SCHEMA public TO owner").unwrap();
        self.create(db);
        self.rows(db, &self.tenants[..1]);
        for table in TABLES {
            let tenant = self.tenants[0];
            db.admin(&format!("ALTER TABLE {table} ALTER tenant_id SET DEFAULT '{tenant}'")).unwrap();
        }
    }

    fn create(&self, db: &Database) {
        let [t0, t1, t2, t3, parts] = self.types;
        let columns = "id int NOT NULL, a int, b int, c text";
        let script = format!(
            "SET ROLE owner; {domains};
             CREATE TABLE t0 (tenant_id {t0}, {columns}, PRIMARY KEY (tenant_id, id));
             CREATE TABLE kid (tenant_id {t0}, {columns}, PRIMARY KEY (tenant_id, id),
               FOREIGN KEY (tenant_id, a) REFERENCES t0 (tenant_id, id) ON DELETE CASCADE ON UPDATE CASCADE);
             CREATE TABLE t1 (tenant_id {t1}, {columns}, PRIMARY KEY (tenant_id, id));
             CREATE TABLE t2 (tenant_id {t2}, {columns}, PRIMARY KEY (tenant_id, id));
             CREATE TABLE t3 (tenant_id {t3}, {columns}, PRIMARY KEY (tenant_id, id));
             CREATE TABLE parts (tenant_id {parts}, {columns}, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
             CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (4);
             CREATE TABLE parts_mid PARTITION OF parts FOR VALUES FROM (4) TO (9) PARTITION BY HASH (id);
             CREATE TABLE parts_mid_0 PARTITION OF parts_mid FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE parts_mid_1 PARTITION OF parts_mid FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
             CREATE TABLE heir (tenant_id {t0}, {columns}, PRIMARY KEY (tenant_id, id));
             CREATE TABLE heir_child (PRIMARY KEY (tenant_id, id)) INHERITS (heir);
             CREATE TABLE free (tenant_id text, {columns});
             CREATE TABLE price (tenant_id text, {columns});
             CREATE INDEX ON t0 (a); CREATE INDEX ON t1 (b); CREATE INDEX ON parts (b); CREATE INDEX ON t2 (c);
             INSERT INTO free SELECT 'free', i, i % 3, i % 4, 'f' || i FROM generate_series(1, 6) i;
             INSERT INTO price SELECT 'price', i, i % 2, i % 5, 'p' || i FROM generate_series(1, 5) i;
             CREATE VIEW plain_view AS SELECT * FROM t0;
             CREATE VIEW deep_view AS SELECT v.tenant_id, v.id, x.a, v.b, x.c FROM plain_view v JOIN t1 x USING (id);
             CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM t1 WHERE a IS NOT NULL;
             CREATE VIEW invoker WITH (security_invoker) AS SELECT * FROM parts WHERE b > 0;
             CREATE VIEW unioned AS SELECT tenant_id::text, id, a, b, c FROM t0 UNION ALL
               SELECT tenant_id::text, id, a, b, c FROM parts;
             CREATE FUNCTION inlined() RETURNS SETOF t0 LANGUAGE sql STABLE AS 'SELECT * FROM t0';
             CREATE FUNCTION atomic() RETURNS SETOF t1 LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM t1; END;
             CREATE FUNCTION chain() RETURNS SETOF t0 LANGUAGE sql STABLE AS
               'SELECT i.* FROM inlined() i WHERE EXISTS (SELECT FROM atomic() x WHERE x.id = i.id)';
             CREATE FUNCTION procedural() RETURNS SETOF t2 LANGUAGE plpgsql AS
               'BEGIN RETURN QUERY SELECT * FROM t2 WHERE id > 1; END';
             CREATE FUNCTION below(n int) RETURNS SETOF parts LANGUAGE sql STABLE AS 'SELECT * FROM parts WHERE id < n';
             CREATE FUNCTION dynamic() RETURNS SETOF heir LANGUAGE plpgsql STABLE AS
               'BEGIN RETURN QUERY EXECUTE ''SELECT * FROM heir''; END';
             CREATE FUNCTION variadic_one(VARIADIC n int[]) RETURNS SETOF t3 LANGUAGE sql STABLE AS
               'SELECT * FROM t3 WHERE id = ANY (n)';
             CREATE FUNCTION how_many(n int) RETURNS int LANGUAGE sql STABLE AS
               'SELECT count(*)::int FROM t1 WHERE id <= n';
             CREATE FUNCTION how_many_slow(n int) RETURNS int LANGUAGE plpgsql STABLE AS
               'BEGIN RETURN (SELECT count(*) FROM parts WHERE id <= n); END';
             RESET ROLE;
             CREATE VIEW owners_view AS SELECT * FROM t2; GRANT SELECT ON owners_view TO PUBLIC;
             CREATE FUNCTION deputy() RETURNS SETOF t3 LANGUAGE plpgsql SECURITY DEFINER AS
               'BEGIN RETURN QUERY SELECT * FROM public.t3; END';
             CREATE FUNCTION deputy_inlined() RETURNS SETOF t3 LANGUAGE sql STABLE AS 'SELECT * FROM public.t3';",
            domains = self.domains,
        );
        db.admin(&script).unwrap();
    }

    fn rows(&self, db: &Database, tenants: &[&str]) {
        let mut script = String::new();
        for (number, tenant) in tenants.iter().enumerate() {
            // Other tenants have the same ids and more of them, and values that the first one has not.
            let (last, shift) = (9 + number, number * 10);
            for table in ["t0", "kid", "t1", "t2", "t3", "parts", "heir", "heir_child"] {
                let salt = table.len() + table.bytes().map(usize::from).sum::<usize>() % 5;
                let first = if table == "heir_child" { 20 } else { 1 };
                let a = match table {
                    "kid" => "CASE WHEN i % 4 = 0 THEN NULL ELSE 1 + i % 7 END".to_string(),
                    _ => format!("nullif((i * {salt} + {shift}) % 7, 3)"),
                };
                script.push_str(&format!(
                    "INSERT INTO {table} (tenant_id, id, a, b, c)
                     SELECT '{tenant}', i, {a}, (i + {salt}) % 5 + {shift}, nullif(chr(97 + (i + {salt}) % 4), 'd') || '{number}'
                       FROM generate_series({first}, {first} + {last} - 1) i;\n"
                ));
            }
        }
        db.admin(&script).unwrap();
    }

    /// The rows as they were made.
    pub fn refill(&self, db: &Database, tenants: &[&str]) {
        db.admin(&format!("TRUNCATE {}", TABLES.join(", "))).unwrap();
        self.rows(db, tenants);
    }

    /// Every row of the first tenant and every row of the others, past the seal.
    pub async fn contents(&self, watch: &Client) -> [Vec<String>; 2] {
        let all =
            TABLES.map(|table| format!("SELECT '{table}' AS t, x::text AS r, tenant_id::text AS k FROM {table} x"));
        let all = all.join(" UNION ALL ");
        let tenant = self.tenants[0];
        let rows = async |which: &str| {
            watch.column(&format!("SELECT t || r FROM ({all}) s WHERE k {which} '{tenant}' ORDER BY 1")).await
        };
        [rows("=").await, rows("<>").await]
    }
}
