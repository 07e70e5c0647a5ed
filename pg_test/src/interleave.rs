//! Sessions whose steps run in a given order, with a transcript to compare.
//!
//! As PostgreSQL's own isolation tester does it: a step that waits for a lock is noticed and written
//! down as `<waiting ...>`, the next step goes on, and the one that waited is reported once it is
//! through. So a test can say in which order things happen, and what each session sees.
//!
//! ```text
//! Interleaving::new(&db)
//!     .steps("a: BEGIN
//!             b: UPDATE stock SET n = n - 1 RETURNING n")
//!     .gives("a: BEGIN
//!             ok
//!             b: UPDATE stock SET n = n - 1 RETURNING n
//!             …")
//!     .await;
//! ```

mod transcript;

use std::collections::BTreeMap;
use std::panic::Location;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::client::Client;
use crate::cluster::Database;
pub(crate) use transcript::differences;
use transcript::{outcome, unindented};

/// A step that neither ends nor waits for a lock for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

type Reply = Result<Vec<SimpleQueryMessage>, Error>;

/// Steps of named sessions. A session logs in as `app` unless told otherwise.
pub struct Interleaving {
    database: Database,
    roles: BTreeMap<String, String>,
    steps: Vec<Step>,
}

struct Step {
    session: String,
    sql: String,
}

struct Session {
    client: std::sync::Arc<Client>,
    pid: i32,
    running: Option<JoinHandle<Reply>>,
}

enum State {
    Done(Reply),
    Waiting,
}

impl Interleaving {
    pub fn new(database: &Database) -> Self {
        Self { database: database.clone(), roles: BTreeMap::new(), steps: Vec::new() }
    }

    /// Lets the session log in as another role.
    pub fn role(mut self, session: &str, role: &str) -> Self {
        self.roles.insert(session.to_string(), role.to_string());
        self
    }

    /// Adds steps, one a line, as `session: SQL`. A line without a session goes on with the last.
    pub fn steps(mut self, text: &str) -> Self {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match (split_step(line), self.steps.last_mut()) {
                (Some((session, sql)), _) => {
                    self.steps.push(Step { session: session.to_string(), sql: sql.to_string() })
                }
                (None, Some(last)) => {
                    last.sql.push('\n');
                    last.sql.push_str(line);
                }
                (None, None) => panic!("a step begins with its session's name: {line}"),
            }
        }
        self
    }

    /// Runs the steps and panics unless the transcript is the expected one; indentation that all
    /// lines share does not count.
    #[track_caller]
    pub fn gives(self, expected: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        let expected = unindented(expected);
        async move {
            let got = self.run().await;
            if got != expected {
                panic!("{at}: another transcript than expected (- expected, + got)\n{}", differences(&expected, &got));
            }
        }
    }

    /// Runs the steps and returns what happened.
    pub async fn run(self) -> String {
        let observer = self.database.connect("postgres").await;
        let mut sessions = BTreeMap::new();
        for step in &self.steps {
            if !sessions.contains_key(&step.session) {
                let session = self.open(&step.session).await;
                sessions.insert(step.session.clone(), session);
            }
        }

        let mut transcript = String::new();
        let mut waiting: Vec<Step> = Vec::new();
        for step in self.steps {
            // A session does one thing at a time: its own waiting step has to end first.
            if let Some(position) = waiting.iter().position(|other| other.session == step.session) {
                let earlier = waiting.remove(position);
                let reply = finish(&mut sessions, &earlier).await;
                report(&mut transcript, &earlier, true, &reply);
                release(&mut sessions, &mut waiting, &observer, &mut transcript).await;
            }
            begin(&mut sessions, &step);
            match settle(&mut sessions, &step, &observer).await {
                State::Done(reply) => report(&mut transcript, &step, false, &reply),
                State::Waiting => {
                    transcript.push_str(&format!("{} <waiting ...>\n", step.title()));
                    waiting.push(step);
                    continue;
                }
            }
            release(&mut sessions, &mut waiting, &observer, &mut transcript).await;
        }
        for step in waiting {
            let reply = finish(&mut sessions, &step).await;
            report(&mut transcript, &step, true, &reply);
        }
        transcript.trim_end().to_string()
    }

    async fn open(&self, name: &str) -> Session {
        let role = self.roles.get(name).map_or("app", String::as_str);
        let client = self.database.connect(role).await;
        let pid = client.one("SELECT pg_backend_pid()").await;
        let pid = pid.parse().unwrap_or_else(|_| panic!("a process id: {pid}"));
        Session { client: client.into(), pid, running: None }
    }
}

impl Step {
    /// On one line, as in the transcript.
    fn title(&self) -> String {
        let words: Vec<&str> = self.sql.split_whitespace().collect();
        format!("{}: {}", self.session, words.join(" "))
    }
}

/// `a: SELECT 1` → `a`, `SELECT 1`; but `::` is a cast and `: ` within SQL follows no bare word.
fn split_step(line: &str) -> Option<(&str, &str)> {
    let (session, sql) = line.split_once(':')?;
    let is_name = !session.is_empty() && session.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && sql.starts_with(' ')).then(|| (session, sql.trim()))
}

fn session<'a>(sessions: &'a mut BTreeMap<String, Session>, step: &Step) -> &'a mut Session {
    match sessions.get_mut(&step.session) {
        Some(session) => session,
        None => panic!("no session {}", step.session),
    }
}

fn begin(sessions: &mut BTreeMap<String, Session>, step: &Step) {
    let session = session(sessions, step);
    let client = std::sync::Arc::clone(&session.client);
    let sql = step.sql.clone();
    session.running = Some(tokio::spawn(async move {
        let reply = client.simple_query(&sql).await;
        if reply.is_err() {
            // The error is sent before the locks are given up; an answer after it says that they are.
            client.simple_query("").await.ok();
        }
        reply
    }));
}

/// Waits until the step has ended or waits for a lock.
async fn settle(sessions: &mut BTreeMap<String, Session>, step: &Step, observer: &Client) -> State {
    let session = session(sessions, step);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if session.running.as_ref().is_none_or(JoinHandle::is_finished) {
            return State::Done(reply(session, step).await);
        }
        let blocked = observer.one(&format!("SELECT cardinality(pg_blocking_pids({})) > 0", session.pid)).await;
        if blocked == "t" {
            return State::Waiting;
        }
        if Instant::now() > deadline {
            panic!("neither done nor blocked after {} s: {}", PATIENCE.as_secs(), step.title());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Reports those of the waiting steps that the last one let through, in the order they came.
async fn release(
    sessions: &mut BTreeMap<String, Session>,
    waiting: &mut Vec<Step>,
    observer: &Client,
    transcript: &mut String,
) {
    // One that ends may let through another that was looked at before it.
    let mut again = true;
    while again {
        again = false;
        for step in std::mem::take(waiting) {
            match settle(sessions, &step, observer).await {
                State::Done(reply) => {
                    report(transcript, &step, true, &reply);
                    again = true;
                }
                State::Waiting => waiting.push(step),
            }
        }
    }
}

async fn finish(sessions: &mut BTreeMap<String, Session>, step: &Step) -> Reply {
    let session = session(sessions, step);
    match tokio::time::timeout(PATIENCE, reply(session, step)).await {
        Ok(reply) => reply,
        Err(_) => panic!("still waiting after {} s: {}", PATIENCE.as_secs(), step.title()),
    }
}

async fn reply(session: &mut Session, step: &Step) -> Reply {
    match session.running.take() {
        Some(task) => match task.await {
            Ok(reply) => reply,
            Err(error) => panic!("{}: {error}", step.title()),
        },
        None => panic!("not running: {}", step.title()),
    }
}

fn report(transcript: &mut String, step: &Step, had_waited: bool, reply: &Reply) {
    let mark = if had_waited { " <... completed>" } else { "" };
    transcript.push_str(&format!("{}{mark}\n", step.title()));
    transcript.push_str(&outcome(&step.sql, reply));
}

#[cfg(test)]
mod tests {
    use super::split_step;

    #[test]
    fn a_cast_does_not_begin_a_step() {
        assert_eq!(split_step("a: SELECT 1"), Some(("a", "SELECT 1")));
        assert_eq!(split_step("'x'::text"), None);
        assert_eq!(split_step("x::text"), None);
        assert_eq!(split_step("WHERE a = 'b: c'"), None);
    }
}
