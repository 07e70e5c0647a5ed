//! What has to be known of a statement before two servers run it: told from its words, as far as the server's test files need it.

/// A statement's text with what its words tell.
pub struct Statement {
    pub sql: String,
    words: Vec<String>,
}

impl Statement {
    pub fn new(sql: String) -> Self {
        let lower = sql.to_ascii_lowercase();
        let is_border = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
        let words = lower.split(is_border).filter(|word| !word.is_empty()).map(String::from).collect();
        Self { sql, words }
    }

    pub fn begins(&self, words: &[&str]) -> bool {
        self.words.iter().zip(words).filter(|(own, word)| own == *word).count() == words.len()
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|own| own == word)
    }

    fn has_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.has(word))
    }

    fn has_beginning(&self, beginnings: &[&str]) -> bool {
        self.words.iter().any(|own| {
            let name = own.strip_prefix("pg_catalog.").unwrap_or(own);
            beginnings.iter().any(|beginning| name.starts_with(beginning))
        })
    }

    /// It changes who acts.
    pub fn changes_role(&self) -> bool {
        ["set session authorization", "reset session authorization", "set role", "reset role", "set local role"]
            .iter()
            .chain(["set local session authorization", "set session role"].iter())
            .any(|text| self.begins(&text.split(' ').collect::<Vec<_>>()))
    }

    /// It begins a transaction block (`true`) or ends one (`false`).
    pub fn block(&self) -> Option<bool> {
        match self.words.first().map(String::as_str) {
            Some("begin") => Some(true),
            Some("start") if self.has("transaction") => Some(true),
            Some("commit" | "end" | "abort" | "rollback" | "prepare")
                if !self.has("to") && (!self.begins(&["prepare"]) || self.begins(&["prepare", "transaction"])) =>
            {
                Some(self.has("chain") && !self.has("no"))
            }
            _ => None,
        }
    }

    pub fn may_make_tables(&self) -> bool {
        self.begins(&["create"]) || self.has("into") || self.begins(&["do"]) || self.begins(&["call"])
    }

    /// It changes rows, by what the seal guards.
    pub fn writes_rows(&self) -> bool {
        let is_data_change = self.has_any(&["insert", "update", "delete", "merge", "execute"]);
        let first = |words: &[&str]| words.iter().any(|word| self.begins(&[word]));
        first(&["insert", "update", "delete", "merge", "copy"])
            || is_data_change && first(&["with", "explain", "prepare", "execute"])
    }

    /// It builds something of the rows that are there.
    pub fn builds_of_rows(&self) -> bool {
        self.begins(&["create", "unique"]) || self.begins(&["alter", "table"]) || self.begins(&["reindex"])
    }

    /// It may change every tenant's rows, or how they look.
    pub fn reaches_all_rows(&self) -> bool {
        let is_table = self.words.iter().take(5).any(|word| word == "table");
        self.builds_of_rows()
            || is_table && ["alter", "create"].iter().any(|word| self.begins(&[word]))
            || ["truncate", "do", "call"].iter().any(|word| self.begins(&[word]))
            || self.begins(&["select"]) && self.has("into")
    }

    /// The contract has it refused, unless there is a bypass.
    pub fn may_need_bypass(&self) -> bool {
        self.begins(&["truncate"])
            || self.begins(&["copy"])
            || self.begins(&["alter"]) && self.has_any(&["attach", "inherit"])
            || self.begins(&["refresh"])
    }

    /// Why its answers cannot be compared: two servers without Bulkhead would not give the same.
    pub fn incomparable(&self) -> Option<&'static str> {
        if self.begins(&["explain"]) || self.has_beginning(&["explain_", "hash_join_batches"]) || self.has("explain") {
            return Some("prints a plan");
        }
        if self.has_beginning(&["pg_", "information_schema"]) && !self.has_any(&["pg_typeof", "pg_temp"]) {
            return Some("reads the catalogs");
        }
        let chance = [
            "random",
            "now",
            "current_timestamp",
            "clock_timestamp",
            "ctid",
            "xmin",
            "xmax",
            "cmin",
            "oid",
            "relpages",
            "txid_current",
            "gen_random_uuid",
            "tablesample",
            "currtid2",
            "statement_timestamp",
            "current_database",
        ];
        let names_files = self.begins(&["reindex"]) && self.has("verbose");
        if names_files
            || self.has_any(&chance)
            || self.words.iter().any(|word| word.ends_with(".ctid") || word.ends_with(".oid"))
        {
            return Some("depends on time, chance or where rows lie");
        }
        None
    }

    /// A table instead of a temporary one: no other session sees those, and they cannot be protected.
    pub fn lasting(self) -> Self {
        let makes = self.begins(&["create"]) && self.words.iter().take(4).any(|word| word == "table")
            || self.begins(&["select"]) && self.has("into");
        if !makes || self.has("commit") || self.has("of") && !self.has("partition") {
            return self;
        }
        let lower = self.sql.to_ascii_lowercase();
        for word in ["temporary ", "temp "] {
            if let Some(at) = lower.find(word)
                && at < 200
                && lower[..at].ends_with([' ', '\n'])
            {
                let rest = &self.sql[at + word.len()..];
                let before = self.sql[..at].trim_end();
                let before = before.strip_suffix("LOCAL").or(before.strip_suffix("local")).unwrap_or(before);
                return Self::new(format!("{before} {rest}"));
            }
        }
        self
    }

    /// `COPY t FROM`, where the file lacks the tenant column: the table's name.
    pub fn copied_whole(&self) -> Option<String> {
        let mut words = self.sql.split_whitespace();
        let (copy, table, from) = (words.next()?, words.next()?, words.next()?);
        (copy.eq_ignore_ascii_case("copy") && from.eq_ignore_ascii_case("from")).then(|| table.to_string())
    }

    /// `INSERT INTO t VALUES`: the table's name. Where the tenant column is not its last, the values would be for other columns.
    pub fn inserted_by_position(&self) -> Option<String> {
        let mut words = self.sql.split_whitespace();
        let (insert, into, table, values) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let fits = insert.eq_ignore_ascii_case("insert") && into.eq_ignore_ascii_case("into");
        let by_position = |word: &str| values.len() >= word.len() && values[..word.len()].eq_ignore_ascii_case(word);
        let values = by_position("values") || by_position("select") && !self.sql.contains('*');
        (fits && values && !table.contains('(')).then(|| table.to_string())
    }

    /// With `(columns)` behind the table's name.
    pub fn with_columns(&self, table: &str, columns: &str) -> Self {
        Self::new(self.sql.replacen(table, &format!("{table} ({columns})"), 1))
    }

    /// `COPY … FROM stdin` and `TO stdout`, by a file of the server's.
    pub fn through_file(&self, path: &str) -> Self {
        let lower = self.sql.to_ascii_lowercase();
        for way in ["from stdin", "to stdout"] {
            if let Some(at) = lower.find(way).filter(|_| self.begins(&["copy"])) {
                let (direction, _) = way.split_once(' ').unwrap_or_default();
                return Self::new(format!("{}{direction} '{path}'{}", &self.sql[..at], &self.sql[at + way.len()..]));
            }
        }
        Self::new(self.sql.clone())
    }

    pub fn copies_to_client(&self) -> bool {
        self.begins(&["copy"]) && self.has("stdout")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Statement {
        Statement::new(sql.into())
    }

    #[test]
    fn words_tell_what_a_statement_is() {
        assert!(of("SET SESSION AUTHORIZATION bob").changes_role());
        assert_eq!(of("BEGIN ISOLATION LEVEL SERIALIZABLE").block(), Some(true));
        assert_eq!(of("ROLLBACK TO s").block(), None);
        assert_eq!(of("COMMIT AND CHAIN").block(), Some(true));
        assert!(of("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x").writes_rows());
        assert!(!of("SELECT * FROM t").writes_rows());
        assert!(of("EXPLAIN SELECT 1").incomparable().is_some());
        assert!(of("SELECT tableoid::regclass, * FROM t").incomparable().is_none());
    }

    #[test]
    fn temporary_tables_are_made_to_last_and_copies_get_their_columns() {
        assert_eq!(of("CREATE TEMP TABLE t (a int)").lasting().sql, "CREATE TABLE t (a int)");
        assert_eq!(of("create local temporary table t (a int)").lasting().sql, "create  table t (a int)");
        assert_eq!(of("CREATE TEMP VIEW t AS SELECT 1").lasting().sql, "CREATE TEMP VIEW t AS SELECT 1");
        let copy = of("COPY t FROM stdin WITH csv");
        let table = copy.copied_whole().unwrap();
        assert_eq!(copy.with_columns(&table, "a, b").through_file("/f").sql, "COPY t (a, b) from '/f' WITH csv");
        assert_eq!(of("COPY t (a) FROM stdin").copied_whole(), None);
    }
}
