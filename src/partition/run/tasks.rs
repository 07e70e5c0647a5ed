//! What a run does for one table.

use pgrx::prelude::*;

use super::{Doing, Run, Step};
use crate::error::Result;
use crate::partition::expire::{self, Action, Outcome};
use crate::partition::ledger::{self, Entry};
use crate::partition::lock_backoff::LockBackoff;
use crate::partition::make;
use crate::partition::table::{self, Leaf};
use crate::partition::time::DAY;
use crate::pg::security;

impl Run {
    /// Judges the clock, then ends interrupted detaches.
    pub(super) fn start(&self, parent: pg_sys::Oid, now: i64, doing: &mut Doing) -> Result<Step> {
        let Some(table) = table::read(parent)? else { return Ok(Step::Over) };
        let managed = &table.managed;
        match (managed.suspect_since, managed.last_run) {
            (None, Some(last)) if now - last > table.rule.clock_jump_limit() => ledger::suspect(parent, Some(now))?,
            // It has gone on since, as a clock does, or came back.
            (Some(since), _) if now - since >= table.rule.every.length().max(DAY) || now < since => {
                ledger::suspect(parent, None)?;
            }
            _ => {}
        }
        // `retain` was made longer since.
        for leaf in table.leaves.iter().filter(|leaf| leaf.archived && !table.rule.is_expired(&leaf.range, now)) {
            ledger::archive_again(leaf.oid)?;
        }
        if let Some(leaf) = table.leaves.iter().find(|leaf| leaf.pending && !self.left.contains(&leaf.oid)) {
            doing.action = "finalize";
            doing.partition = Some((leaf.oid, leaf.name.clone()));
            expire::finalize(&table, leaf)?;
            return Ok(Step::Did(Some(
                "an interrupted DETACH CONCURRENTLY was ended; the table stands by itself".to_owned(),
            )));
        }
        Ok(Step::Over)
    }

    /// The next action for an expired partition.
    pub(super) fn expire(
        &self,
        parent: pg_sys::Oid,
        now: i64,
        backoff: &mut LockBackoff,
        doing: &mut Doing,
    ) -> Result<Step> {
        let Some(table) = table::read(parent)? else { return Ok(Step::Over) };
        let due = |leaf: &&Leaf| {
            table.rule.is_expired(&leaf.range, now) && !leaf.held && !leaf.pending && !self.left.contains(&leaf.oid)
        };
        let Some(leaf) = table.leaves.iter().find(due) else { return Ok(Step::Over) };
        doing.partition = Some((leaf.oid, leaf.name.clone()));
        if table.managed.suspect_since.is_some() {
            doing.action = "clock";
            if !expire::is_confirmed(&table, leaf, now)? {
                return Ok(Step::Left(
                    "the clock went far ahead since the last run, and no row is that new; put off until one is, or the clock has gone on"
                        .to_owned(),
                ));
            }
        }
        if !leaf.plain {
            doing.action = Action::Drop.name();
            return Ok(Step::Left("it is partitioned again, or foreign; drop it by hand".to_owned()));
        }
        let action = match table.managed.on_expire {
            Some(_) if !leaf.archived => Action::Archive,
            _ if !self.emptied.contains(&leaf.oid) => Action::Empty,
            _ => Action::Drop,
        };
        doing.action = action.name();
        let outcome = match (action, table.managed.on_expire) {
            (Action::Archive, Some(function)) => expire::archive(&table, leaf, function)?,
            (Action::Empty, _) => expire::empty(&table, leaf, now, backoff, &mut doing.asked)?,
            _ => expire::drop(&table, leaf, now, backoff, &mut doing.asked)?,
        };
        Ok(match outcome {
            Outcome::Done => Step::Did(None),
            Outcome::Needless => Step::On,
            Outcome::Busy(relation) => Step::Busy(relation),
        })
    }
}

pub(super) fn create(parent: pg_sys::Oid, now: i64, backoff: &mut LockBackoff, doing: &mut Doing) -> Result<Step> {
    doing.action = "create";
    doing.asked = security::relation_name(parent);
    Ok(match make::next(parent, now, make::Wanted::All)? {
        Ok(None) => Step::Over,
        Ok(Some(made)) => {
            backoff.got();
            if made.adopted {
                doing.action = "adopt";
            }
            doing.partition = Some((pg_sys::InvalidOid, made.name));
            Step::Did(
                made.adopted.then(|| "it stood by itself, empty, under the name of a missing partition".to_owned()),
            )
        }
        Err(busy) => Step::Busy(busy),
    })
}

pub(super) fn finish(parent: pg_sys::Oid, doing: &mut Doing) -> Result<Step> {
    let Some(table) = table::read(parent)? else { return Ok(Step::Over) };
    ledger::ran(parent)?;
    for orphan in make::orphans(&table)? {
        if !ledger::is_logged(parent, &orphan, "orphan")? {
            doing.action = "orphan";
            let detail =
                format!("it looks like a partition of {} that was detached; attach it again or drop it", table.name);
            ledger::log(&Entry {
                parent,
                partition: Some(orphan),
                action: "orphan",
                ok: false,
                detail: Some(detail),
                lock_wait: 0,
                duration: 0,
            })?;
        }
    }
    Ok(Step::Over)
}
