//! A run of maintain(): one step a call, each in a transaction of its own.
//!
//! What has to be done is looked up anew in each step, so a run that dies leaves nothing but what it has committed. In memory are only
//! the tables still to come and how often a lock was tried for. A step that fails is rolled back to where it began, logged, and the run goes on
//! with the rest.

mod tasks;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use pgrx::prelude::*;

use super::expire::Action;
use super::ledger::{self, Entry};
use super::lock_backoff::LockBackoff;
use crate::error::{self, Result};
use crate::pg::cell::{PerBackend, hot};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{own_locks, procedure, security, timeout, transaction};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Task {
    /// Judges the clock, and ends interrupted detaches.
    Begin,
    Create,
    Expire,
    End,
}

/// What a run keeps between its steps.
struct Run {
    tasks: VecDeque<(Task, pg_sys::Oid)>,
    backoff: LockBackoff,
    /// Partitions that were emptied in this run, or are empty, and those that are left for the next.
    emptied: Vec<pg_sys::Oid>,
    left: Vec<pg_sys::Oid>,
    /// A partition of the present table could not be locked, or several of the run.
    few_attempts: bool,
    /// Partitions of the run that could not be locked.
    put_off: u32,
    /// Partitions made for the present table.
    made: u32,
    stepping: bool,
}

static RUN: PerBackend<RefCell<Option<Run>>> = PerBackend::new(RefCell::new(None));
hot! {
    /// There is one: for the end of every transaction, which `RUN` is too large for.
    static RUNNING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
}

/// After so many the run hurries: somebody reads everything, a dump most likely, and to be patient with each table would take hours.
const MOST_PUT_OFF: u32 = 3;

/// What a step is at, for the log.
#[derive(Clone, Debug)]
struct Doing {
    partition: Option<(pg_sys::Oid, String)>,
    action: &'static str,
    /// What a lock is waited for on.
    asked: String,
}

/// What came of a step.
enum Step {
    /// The task is over.
    Over,
    /// It is not, and something was done: the detail.
    Did(Option<String>),
    /// It is not, and there was nothing to do or to log.
    On,
    /// A lock on this table could not be had.
    Busy(String),
    /// Left for the next run: why.
    Left(String),
}

/// Partitions made for one table in one run.
const MOST_MADE: u32 = 1_000;

#[inline(always)]
pub fn is_running() -> bool {
    RUNNING.get()
}

/// The transaction is over. What an error ended has no lock any more; a run whose statement is over would keep its lock.
pub fn end_transaction(committed: bool) {
    if !committed {
        if let Ok(mut run) = RUN.try_borrow_mut() {
            *run = None;
            RUNNING.set(false);
        }
    } else if transaction::statement_is_over() {
        end();
    }
}

fn end() {
    if let Ok(mut run) = RUN.try_borrow_mut()
        && run.take().is_some()
    {
        RUNNING.set(false);
        own_locks::end_run();
    }
}

/// The next step of this session's run, which the first begins: seconds to wait before the one after it; None when the run is over.
pub fn step() -> Result<Option<f64>> {
    admit()?;
    if RUN.borrow().as_ref().is_some_and(|run| run.stepping) {
        return Err(error::state(
            "maintain() was called from within itself",
            "A step of it is running in this session.",
            "Take the call out of the on_expire function or the trigger.",
        ));
    }
    if RUN.borrow().is_none() {
        if !own_locks::try_run() {
            notice!("another session runs bulkhead.maintain() in this database; this one leaves it to that");
            return Ok(None);
        }
        // An error from here on ends the transaction, and with it the lock.
        RUN.replace(Some(begin()?));
        RUNNING.set(true);
    }
    let Some(mut run) = RUN.take() else { return Ok(None) };
    // While the step runs, another call finds this in its place.
    RUN.replace(Some(Run { stepping: true, ..Run::new(VecDeque::new()) }));
    let outcome = run.step();
    RUN.replace(Some(run));
    let pause = outcome?;
    if pause.is_none() {
        end();
    }
    Ok(pause)
}

/// The privilege is EXECUTE on maintain().
pub fn admit_caller() -> Result<()> {
    if !procedure::may_execute("maintain")? {
        return Err(error::denied(
            "permission denied for procedure bulkhead.maintain",
            "It acts for all tenants and all owners of managed tables.",
            "GRANT EXECUTE ON PROCEDURE bulkhead.maintain() TO the role that runs it.",
        ));
    }
    Ok(())
}

fn admit() -> Result<()> {
    admit_caller()?;
    let where_it_may = if security::is_standby() {
        "Call it on the primary; the standby gets what it does."
    } else {
        "Call it in a session whose transactions are not read-only."
    };
    procedure::refuse_read_only("bulkhead.maintain()", where_it_may)?;
    let why = "It is REPEATABLE READ or SERIALIZABLE: a hold made since it began would be overlooked.";
    procedure::refuse_old_snapshot("bulkhead.maintain()", why)
}

fn begin() -> Result<Run> {
    let parents = ledger::parents()?;
    ledger::trim()?;
    // All that is made comes before anything that is dropped, so that trouble with the one does not keep the other waiting.
    let mut tasks = VecDeque::new();
    for steps in [&[Task::Begin, Task::Create][..], &[Task::Expire, Task::End][..]] {
        for parent in &parents {
            tasks.extend(steps.iter().map(|task| (*task, *parent)));
        }
    }
    Ok(Run::new(tasks))
}

impl Run {
    fn new(tasks: VecDeque<(Task, pg_sys::Oid)>) -> Run {
        Run {
            tasks,
            backoff: LockBackoff::default(),
            emptied: Vec::new(),
            left: Vec::new(),
            few_attempts: false,
            put_off: 0,
            made: 0,
            stepping: false,
        }
    }

    fn step(&mut self) -> Result<Option<f64>> {
        let Some((task, parent)) = self.tasks.front().copied() else { return Ok(None) };
        let began = ledger::now();
        self.backoff.begin(began);
        timeout::reset();
        let mut doing = Doing { partition: None, action: "check", asked: String::new() };
        let mut backoff = self.backoff;
        let done = subtransaction::kept(timeout::was_reached, || match task {
            Task::Begin => self.start(parent, began, &mut doing),
            Task::Create if self.made >= MOST_MADE => Ok(Step::Over),
            Task::Create => tasks::create(parent, began, &mut backoff, &mut doing),
            Task::Expire => self.expire(parent, began, &mut backoff, &mut doing),
            Task::End => tasks::finish(parent, &mut doing),
        });
        self.backoff = backoff;
        let now = ledger::now();
        let duration = now - began;
        let entry = |ok: bool, detail: Option<String>, lock_wait: i64| Entry {
            parent,
            partition: doing.partition.as_ref().map(|(_, name)| name.clone()),
            action: doing.action,
            ok,
            detail,
            lock_wait,
            duration,
        };
        match done {
            Ok(Step::Over) => self.next_task(),
            Ok(Step::On) => self.settle(&doing),
            Ok(Step::Did(detail)) => {
                ledger::log(&entry(true, detail, self.backoff.waited))?;
                self.made += u32::from(task == Task::Create);
                self.settle(&doing);
            }
            Ok(Step::Left(why)) => {
                ledger::log(&entry(false, Some(why), 0))?;
                self.leave(&doing);
            }
            Ok(Step::Busy(relation)) => return self.busy(task, &relation, now, &doing, &entry),
            Err(failure) if failure.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                return self.busy(task, &doing.asked, now, &doing, &entry);
            }
            Err(failure) => {
                ledger::log(&entry(false, Some(reason(failure)), self.backoff.waited))?;
                match task {
                    Task::Expire if doing.partition.is_some() => self.leave(&doing),
                    Task::Begin if doing.partition.is_some() => self.leave(&doing),
                    _ => self.next_task(),
                }
            }
        }
        Ok(Some(0.0))
    }

    fn next_task(&mut self) {
        self.tasks.pop_front();
        self.few_attempts = self.put_off >= MOST_PUT_OFF;
        self.backoff = LockBackoff::new(self.few_attempts);
        self.made = 0;
    }

    /// An action is over; the task is not.
    fn settle(&mut self, doing: &Doing) {
        if let Some((partition, _)) = &doing.partition
            && doing.action == Action::Empty.name()
        {
            self.emptied.push(*partition);
        }
        self.backoff = LockBackoff::new(self.few_attempts);
    }

    /// Nothing more of the partition in this run.
    fn leave(&mut self, doing: &Doing) {
        match &doing.partition {
            Some((partition, _)) => self.left.push(*partition),
            None => return self.next_task(),
        }
        self.backoff = LockBackoff::new(self.few_attempts);
    }

    fn busy(
        &mut self,
        task: Task,
        relation: &str,
        now: i64,
        doing: &Doing,
        entry: &dyn Fn(bool, Option<String>, i64) -> Entry,
    ) -> Result<Option<f64>> {
        if let Some(pause) = self.backoff.failed(now, now as u64) {
            return Ok(Some(pause));
        }
        let what = if relation.is_empty() { "the table" } else { relation };
        let why = format!("{what} was in use all the time; put off to the next run");
        ledger::log(&entry(false, Some(why), self.backoff.waited))?;
        self.few_attempts = task == Task::Expire;
        self.put_off += u32::from(self.few_attempts);
        match task {
            Task::Expire | Task::Begin => self.leave(doing),
            _ => self.next_task(),
        }
        Ok(Some(0.0))
    }
}

fn reason(failure: Failure) -> String {
    let limited = failure.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && timeout::was_reached();
    let message =
        if limited { "it took too long, and would have held up the application".to_owned() } else { failure.message };
    match failure.detail {
        Some(detail) if !limited => format!("{message} ({detail})"),
        _ => message,
    }
}
