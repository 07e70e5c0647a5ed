//! The same script on a plain database that holds tenant a's rows and on a sealed one that holds b's as well, statement by statement.
//!
//! Each query has to give the same multiset of rows, each change the same count, RETURNING and table afterwards, each error the same SQLSTATE,
//! and no statement may touch a row of tenant b's. So hooks that do nothing cannot pass. What the seal refuses by contract is counted, and done
//! under a bypass so that the script goes on. Run with `bulkhead.seal = off` the comparison has to fail.

mod answer;
mod report;
mod script;
mod statement;
mod twins;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use answer::Answer;
pub use report::{Difference, Report};
use script::{Item, Then, Variables};
use statement::Statement;
pub use twins::Twins;
use twins::{LIFT, LOWER};

/// Ways to read that are turned off, one list for each plan that is tried.
const PLANS: [&[&str]; 4] =
    [&["seqscan"], &["bitmapscan"], &["seqscan", "bitmapscan"], &["indexscan", "indexonlyscan", "bitmapscan"]];

/// How a script is run.
pub struct Options {
    /// What `\getenv` finds.
    pub environment: HashMap<String, String>,
    /// As superuser throughout: statements that change the role are left out.
    pub superuser: bool,
    /// A directory that both servers read and write, for COPY.
    pub files: PathBuf,
}

/// Runs one script from a new session to its end.
pub async fn run(twins: &mut Twins, name: &str, text: &str, options: &Options) -> Result<Report> {
    twins.reconnect().await?;
    let mut run = Run { twins, options, variables: Variables::new(), block: false, report: Report::new(name) };
    for item in script::read(text) {
        run.item(item).await?;
    }
    let Run { report, .. } = run;
    Ok(report)
}

struct Run<'a> {
    twins: &'a mut Twins,
    options: &'a Options,
    variables: Variables,
    /// A transaction block is open.
    block: bool,
    report: Report,
}

impl Run<'_> {
    async fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Set(name, value) => {
                let value = script::joined(&value, &self.variables);
                self.variables.insert(name, value);
            }
            Item::FromEnvironment(variable, name) => {
                let value = self.options.environment.get(&name).cloned().unwrap_or_default();
                self.variables.insert(variable, value);
            }
            Item::Connect => {
                self.twins.reconnect().await?;
                self.block = false;
            }
            Item::Unknown(_) => self.report.skip("a command of psql's own"),
            Item::Statement { sql, then, data } => {
                let Some(plain) = self.statements(&sql, data.as_deref()).await? else { return Ok(()) };
                match then {
                    Then::Nothing => {}
                    Then::Variables(prefix) => self.keep(&prefix, &plain).await,
                    Then::Statements => {
                        for sql in plain.values() {
                            self.statement(Statement::new(sql), None).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A variable may stand for several statements; the answer is the last one's, as the plain side gives it.
    async fn statements(&mut self, sql: &str, data: Option<&str>) -> Result<Option<Answer>> {
        let meant = script::substitute(sql, &self.variables);
        if meant == sql {
            return self.statement(Statement::new(meant), data).await;
        }
        let mut last = None;
        for item in script::read(&format!("{meant};")) {
            if let Item::Statement { sql, .. } = item {
                last = self.statement(Statement::new(sql), data).await?;
            }
        }
        Ok(last)
    }

    /// `\gset` names columns; the simple protocol's rows have lost theirs, so only the usual single value is kept under its alias.
    async fn keep(&mut self, prefix: &str, answer: &Answer) {
        let Some(sql) = self.report.last() else { return };
        let names = aliases(sql);
        for (name, value) in names.into_iter().zip(answer.single_row()) {
            self.variables.insert(format!("{prefix}{name}"), value.unwrap_or_default());
        }
    }

    async fn statement(&mut self, given: Statement, data: Option<&str>) -> Result<Option<Answer>> {
        self.report.begin(&given.sql);
        if self.options.superuser && given.changes_role() {
            self.report.skip("changes the role");
            return Ok(None);
        }
        let statement = self.prepared(given, data).await?;
        if statement.writes_rows() || statement.builds_of_rows() {
            self.twins.before(&statement.sql, statement.builds_of_rows()).await;
        }
        let plain = self.answer(&self.twins.plain.client, &statement).await?;
        let plain_notices = self.twins.plain.client.notices();
        let sealed = self.on_sealed(&statement, &plain).await?;
        let sealed_notices = self.twins.sealed.client.notices();
        self.follow_block(&statement, &plain);
        if self.is_of_another_plan(&statement, &plain, &sealed).await {
            self.report.skip("says no order, and the plain server gives the same with another plan");
            return Ok(Some(plain));
        }
        self.judge(&statement, &plain, &sealed, (plain_notices, sealed_notices));
        self.look_after(&statement, &plain, &sealed).await;
        Ok(Some(plain))
    }

    /// As both can run it: no temporary tables, files instead of the client's COPY, which then lack the tenant column.
    async fn prepared(&self, given: Statement, data: Option<&str>) -> Result<Statement> {
        let mut statement = given.lasting();
        if let Some(table) = statement.copied_whole().or_else(|| statement.inserted_by_position()) {
            let of =
                format!("attrelid = to_regclass('{}') AND attnum > 0 AND NOT attisdropped", table.replace('\'', "''"));
            // Nothing where the tenant column is the last: INSERT may name fewer values than there are columns.
            let question = format!(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                 WHERE {of} AND attname <> 'tenant' AND ({copies} AND attgenerated = '' OR
                       NOT {copies} AND (SELECT attname FROM pg_attribute WHERE {of} ORDER BY attnum DESC LIMIT 1) <> 'tenant')",
                copies = statement.begins(&["copy"])
            );
            let columns = self.twins.plain.ask(&question).await.unwrap_or_default().join(", ");
            if !columns.is_empty() {
                statement = statement.with_columns(&table, &columns);
            }
        }
        if let Some(data) = data {
            let path = self.options.files.join("in");
            std::fs::write(&path, data).with_context(|| format!("writing {}", path.display()))?;
            statement = statement.through_file(&path.display().to_string());
        } else if statement.copies_to_client() {
            statement = statement.through_file(&self.out().display().to_string());
        }
        Ok(statement)
    }

    fn out(&self) -> PathBuf {
        self.options.files.join("out")
    }

    /// What it says; for COPY TO the lines that it wrote.
    async fn answer(&self, client: &crate::Client, statement: &Statement) -> Result<Answer> {
        let answer = Answer::of(client, &statement.sql).await;
        if !statement.begins(&["copy"]) || !statement.sql.contains(&self.out().display().to_string()) {
            return Ok(answer);
        }
        if !answer.succeeded() {
            return Ok(answer);
        }
        let text = std::fs::read(self.out()).unwrap_or_default();
        std::fs::remove_file(self.out()).ok();
        Ok(Answer::lines(&String::from_utf8_lossy(&text)))
    }

    /// What the contract has refused is done once more under a bypass, where it worked on the plain side.
    async fn on_sealed(&mut self, statement: &Statement, plain: &Answer) -> Result<Answer> {
        let client = &self.twins.sealed.client;
        let guarded = self.block && statement.may_need_bypass();
        if guarded {
            client.try_run("SAVEPOINT differential").await.ok();
        }
        let answer = self.answer(client, statement).await?;
        let refused = match &answer {
            Answer::Refused { message, .. } => report::by_contract(message).filter(|_| plain.succeeded()),
            Answer::Results(_) => None,
        };
        let Some(reason) = refused else {
            // A failed one is left as it is: the script's transaction has failed on the plain side as well.
            if guarded && answer.succeeded() {
                client.try_run("RELEASE differential").await.ok();
            }
            return Ok(answer);
        };
        if self.block && !guarded {
            return Ok(answer);
        }
        let (begin, end) = if self.block { ("ROLLBACK TO differential", LOWER) } else { ("BEGIN", "COMMIT") };
        client.try_run(begin).await.ok();
        client.try_run(LIFT).await.ok();
        let again = self.answer(client, statement).await?;
        client.try_run(end).await.ok();
        if self.block {
            client.try_run("RELEASE differential").await.ok();
        }
        self.report.refuse(reason);
        Ok(again)
    }

    /// A frame or LIMIT over rows whose order the query does not say has as many answers as there are plans, and the border makes another one.
    async fn is_of_another_plan(&self, statement: &Statement, plain: &Answer, sealed: &Answer) -> bool {
        let differs = plain.succeeded() && sealed.succeeded() && !plain.is_as(sealed);
        if !differs || !statement.begins(&["select"]) {
            return false;
        }
        let (begin, end) = if self.block { ("SAVEPOINT plan", "ROLLBACK TO plan") } else { ("BEGIN", "ROLLBACK") };
        let client = &self.twins.plain.client;
        let mut found = false;
        for ways in PLANS {
            client.try_run(begin).await.ok();
            for way in ways {
                client.try_run(&format!("SET LOCAL enable_{way} = off")).await.ok();
            }
            found |= Answer::of(client, &statement.sql).await.is_as(sealed);
            client.try_run(end).await.ok();
        }
        client.notices();
        found
    }

    fn follow_block(&mut self, statement: &Statement, plain: &Answer) {
        if let Some(open) = statement.block()
            && (plain.succeeded() || !open)
        {
            self.block = open;
        }
    }

    fn judge(&mut self, statement: &Statement, plain: &Answer, sealed: &Answer, notices: (Vec<String>, Vec<String>)) {
        if !plain.is_as(sealed) && statement.incomparable().is_none() {
            let kind = if plain.succeeded() == sealed.succeeded() { "answer" } else { "error" };
            self.report.differ(kind, &statement.sql, &plain.beside(sealed), &sealed.beside(plain));
            return;
        }
        if let Some(reason) = statement.incomparable() {
            self.report.skip(reason);
            return;
        }
        // Fewer are no leak: the border is looked at before a function that says what it sees.
        let (of_plain, of_sealed) = notices;
        if let Some(told) = first_beyond(&of_sealed, &of_plain) {
            self.report.differ("notices", &statement.sql, "", &told);
            return;
        }
        self.report.equal(plain.succeeded(), plain.has_rows());
    }

    /// The tables afterwards, and b's rows; then new tables and new canaries.
    async fn look_after(&mut self, statement: &Statement, plain: &Answer, sealed: &Answer) {
        if !plain.succeeded() || !sealed.succeeded() {
            return;
        }
        if statement.may_make_tables() {
            let failed = self.twins.adopt().await;
            self.report.not_adopted(failed);
        }
        if !statement.writes_rows() && !statement.reaches_all_rows() {
            return;
        }
        let Some(tables) = self.twins.differing(&statement.sql).await else {
            self.report.tables_unknown();
            return;
        };
        // Each once; what was made of catalogs or of chance is not the seal's.
        let is_new = |table: &&String| !self.twins.known.contains(name_of(table));
        let new: Vec<&str> = tables.iter().filter(is_new).map(String::as_str).collect();
        if new.is_empty() {
            self.report.tables_equal();
        } else if statement.incomparable().is_none() {
            self.report.differ("table afterwards", &statement.sql, &new.join("; "), "");
        }
        self.twins.known.extend(tables.iter().map(|table| name_of(table).to_string()));
        for table in self.twins.after(&statement.sql, !statement.writes_rows()).await {
            self.report.differ("canaries", &statement.sql, "", &table);
        }
    }
}

/// What the one says more often than the other.
fn first_beyond(one: &[String], other: &[String]) -> Option<String> {
    let mut left = other.to_vec();
    one.iter()
        .find(|line| left.iter().position(|known| known == *line).map(|at| left.swap_remove(at)).is_none())
        .cloned()
}

/// `plain NAME DIGEST, sealed …`
fn name_of(difference: &str) -> &str {
    difference.split(' ').nth(1).unwrap_or_default()
}

/// The names that `SELECT … AS name, …` gives to its columns.
fn aliases(sql: &str) -> Vec<String> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let names = words.windows(2).filter(|pair| pair[0].eq_ignore_ascii_case("as"));
    names.map(|pair| pair[1].trim_end_matches([',', ';']).trim_matches('"').to_string()).collect()
}

/// Where a test file keeps what it reads.
pub fn environment(sources: &Path, libraries: &Path, files: &Path) -> HashMap<String, String> {
    let text = |path: &Path| path.display().to_string();
    HashMap::from([
        ("PG_ABS_SRCDIR".to_string(), text(sources)),
        ("PG_LIBDIR".to_string(), text(libraries)),
        ("PG_DLSUFFIX".to_string(), ".so".to_string()),
        ("PG_ABS_BUILDDIR".to_string(), text(files)),
    ])
}
