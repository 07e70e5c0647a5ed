//! A worker's way through the queue of an inventory: it waits for nobody, and passes by the orders whose items somebody has locked.

use std::collections::HashSet;

use pgrx::prelude::*;

use super::backlog;
use super::batch::Busy;
use super::drain;
use crate::error::Result;
use crate::pg::subtransaction::Failure;
use crate::pg::{own_locks, relation_locks, security};

/// Requests that one batch takes.
const SIZE: usize = 500;

pub struct Sweep {
    relation: pg_sys::Oid,
    /// The numbers of the requests that wait on.
    passed: HashSet<i64>,
    /// An error that some of those have met.
    failure: Option<Failure>,
    is_stopped: bool,
    /// The last batch has left something.
    is_hindered: bool,
    /// It is another time through what was left behind.
    is_repeated: bool,
    /// So many requests the last batch was done with.
    done: usize,
}

/// What is left when a sweep is over.
pub enum Rest {
    Nothing,
    /// Something that another transaction is at.
    Busy,
    /// Something that the table does not let through.
    Failed(Failure),
}

impl Sweep {
    pub fn new(relation: pg_sys::Oid) -> Sweep {
        Sweep {
            relation,
            passed: HashSet::new(),
            failure: None,
            is_stopped: false,
            is_hindered: false,
            is_repeated: false,
            done: 0,
        }
    }

    /// The next batch, in a transaction of its own. False when there is no more.
    pub fn batch(&mut self) -> Result<bool> {
        self.is_stopped = true;
        self.done = 0;
        if !security::exists(self.relation) {
            self.is_stopped = false;
            return Ok(false);
        }
        // Whoever drains now drains what was queued.
        if !own_locks::try_draining(self.relation) || !relation_locks::try_relation_for_statement(self.relation) {
            return Ok(false);
        }
        let busy = if self.is_repeated { Busy::LeaveLocked } else { Busy::LeaveAll };
        let Some(went) = drain::take(self.relation, SIZE, busy, &self.passed)? else { return Ok(false) };
        self.is_stopped = false;
        self.is_hindered = !went.left.is_empty();
        self.done = went.done;
        let is_over = went.done == 0 && !self.is_hindered;
        self.passed.extend(went.left);
        if self.failure.is_none() {
            self.failure = went.failure;
        }
        Ok(!is_over)
    }

    /// How many requests the last batch decided or set aside.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether the last batch met somebody, or something, in its way.
    pub fn is_hindered(&self) -> bool {
        self.is_hindered
    }

    /// It is over for now.
    pub fn end(&mut self) -> Rest {
        let is_whole = self.passed.is_empty();
        self.is_repeated = !is_whole;
        if !is_whole {
            backlog::forget();
            self.passed.clear();
        }
        match self.failure.take() {
            Some(failure) => Rest::Failed(failure),
            None if is_whole && !self.is_stopped => Rest::Nothing,
            None => Rest::Busy,
        }
    }
}
