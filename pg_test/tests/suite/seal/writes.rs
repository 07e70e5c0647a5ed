//! Random statements that write, each with one possible outcome: no row is met twice.

use super::generator::Type::{Int, Text};
use super::generator::{Generator, Scope};

const TARGETS: [&str; 10] = ["t0", "kid", "t1", "t2", "t3", "parts", "heir", "plain_view", "invoker", "parts_mid"];

/// Where rows can be merged into: views cannot.
const TABLES: [&str; 7] = ["t0", "kid", "t1", "t2", "t3", "parts", "parts_rest"];

impl Generator<'_> {
    pub fn write(&mut self) -> String {
        let target = *self.random.pick(&TARGETS);
        let scope = self.scope_of("t");
        let nothing = Scope::default();
        let filter = self.condition(2, &scope);
        let returning = *self.random.pick(&["", " RETURNING t.id, t.a, t.c", " RETURNING t", " RETURNING t.*"]);
        match self.random.below(9) {
            0 => {
                let rows = self.new_rows();
                format!("INSERT INTO {target} AS t (id, a, b, c) {rows}{returning}")
            }
            1 => {
                let target = *self.random.pick(&TABLES[..6]);
                let rows = self.new_rows();
                let action = match self.random.below(3) {
                    0 => "NOTHING".to_string(),
                    1 => "UPDATE SET b = excluded.b + t.b, c = excluded.c".to_string(),
                    _ => format!("UPDATE SET c = t.c || excluded.c WHERE {filter}"),
                };
                format!(
                    "INSERT INTO {target} AS t (id, a, b, c) {rows} ON CONFLICT (tenant_id, id) DO {action}{returning}"
                )
            }
            2 => {
                let value = self.expression(2, &scope, Int);
                let text = self.expression(1, &scope, Text);
                format!("UPDATE {target} AS t SET b = {value}, c = {text} WHERE {filter}{returning}")
            }
            3 => {
                let types = [Int, Int];
                let inner = self.query(2, &nothing, &types);
                format!(
                    "UPDATE {target} AS t SET b = s.m FROM (SELECT q.x1 AS id, max(q.x2) AS m FROM ({inner}) q(x1, x2)
                     GROUP BY 1) s WHERE s.id = t.id AND {filter}{returning}"
                )
            }
            4 => format!("UPDATE {target} AS t SET id = t.id + 100 WHERE {filter}{returning}"),
            5 => format!("DELETE FROM {target} AS t WHERE {filter} AND t.id % 3 = 0{returning}"),
            6 => {
                let inner = self.query(2, &nothing, &[Int]);
                format!(
                    "DELETE FROM {target} AS t USING ({inner}) q(x1) WHERE q.x1 = t.id AND t.b < 3 AND {filter}{returning}"
                )
            }
            7 => {
                let target = *self.random.pick(&TABLES);
                let rows = self.new_rows();
                let more = self.simple_condition(&scope);
                format!(
                    "MERGE INTO {target} AS t USING ({rows}) s(id, a, b, c) ON s.id = t.id
                     WHEN MATCHED AND {more} THEN UPDATE SET b = s.b, c = s.c
                     WHEN MATCHED AND t.b = 2 THEN DELETE
                     WHEN NOT MATCHED AND s.id IS NOT NULL THEN INSERT (id, a, b, c) VALUES (s.id, s.a, s.b, s.c)"
                )
            }
            _ => {
                let write = *self.random.pick(&[
                    "DELETE FROM t1 w WHERE w.b = 2 RETURNING w.id, w.c",
                    "UPDATE parts w SET b = b + 1 WHERE w.b > 1 RETURNING w.id, w.c",
                    "UPDATE t0 w SET c = 'x' WHERE w.a = 2 RETURNING w.id, w.c",
                    "INSERT INTO t2 AS w (id, c) SELECT id + 500, c FROM t0 RETURNING w.id, w.c",
                ]);
                let select = self.query(2, &nothing, &[Int, Text]);
                format!("WITH w AS ({write}) SELECT * FROM w UNION ALL ({select})")
            }
        }
    }

    /// Rows for a table, at most one for each id.
    fn new_rows(&mut self) -> String {
        let inner = self.query(2, &Scope::default(), &[Int, Int, Text]);
        format!(
            "SELECT DISTINCT ON (q.x1) q.x1, 1 + abs(q.x2) % 7, q.x2 % 5, q.x3 FROM ({inner}) q(x1, x2, x3)
             WHERE q.x1 IS NOT NULL ORDER BY q.x1, q.x2, q.x3"
        )
    }
}
