//! Group commit: many callers, one transaction, and the verdict told once it is durable.
//!
//! A row that everybody wants is locked through the flush of each transaction that changes it, so the server's own group commit cannot help: there is never more than one to flush. Here callers
//! hand their orders to a worker of their database and sleep. The worker takes all that wait, decides them as a batch (many.rs, as a drain does), commits once, sees to it that the
//! commit is on disk, answers, and goes on with those that have gathered meanwhile. With one caller there is no delay but a switch between processes: it looks for its answer for a moment before it sleeps (src/pg/group/wait.rs, `watch`).
//! Where several tenants wait, or did a moment ago, a round takes a few orders of each (share.rs), the oldest first: the others' rounds stay short when one sends many, and its sessions, answered a few at a time, leave them the processors.
//!
//! | file | what it is for |
//! |---|---|
//! | slot.rs | whose turn it is with a slot: a word and its steps. Pure Rust, tried in every order of events (src/pg/group/slot_model.rs) |
//! | body.rs | request, answer and error as bytes. Pure Rust |
//! | share.rs | what each of several tenants may have of a round. Pure Rust |
//! | call.rs | the caller |
//! | round.rs, tables.rs, became.rs | one batch: who is taken and told; the orders of each table; what became of one |
//! | bisect.rs, work.rs | a batch that fails; the worker's life |
//! | launch.rs | who has a worker |
//! | survey.rs | what whoever watches is told of slots and workers |
//! | src/pg/group | shared memory, latches, processes, the SQL functions |
//!
//! # The memory
//!
//! `slots × word`, then `slots × (ticket, flush_lsn)`, then `slots × 8 kB`. A caller takes any free slot, so a slot is nobody's for longer than a request. A worker looks for work in the words alone: eight to a cache
//! line, stage and database in one. Beside them there is a desk for each database that has a worker or wants one. As there are as many slots as there can be sessions and
//! workers, none has to wait for one unless `bulkhead.decrement_slots` is smaller, or orders are left behind faster than they are moved on.
//!
//! # A request
//!
//! ```text
//! caller   claim  FREE -> FILLING      write the request; ticket
//!          publish     -> WAITING      [release]; full fence; read the desk's latch; set it, or ask for a worker;
//!                                      sleep on the word, futex(2), while it is not DONE
//! worker   take   WAITING -> TAKEN     [acquire]; read the request where it lies
//!                                      ... one transaction for all that were taken; commit; flush the log ...
//!                                      write the answer in the same place, and how far standbys are to have the log for it
//!          finish  TAKEN -> DONE       [release]; wake who sleeps on the word
//! caller   is_done                     [acquire]; read the answer; free -> FREE; wait for standbys
//! ```
//!
//! The body belongs to whom the word names, and the word changes hands by compare-and-exchange (acquire and release) only; so there is no other lock. The ticket says who came first, and tells
//! two requests in one slot apart for a worker that remembers one. A caller that waits no longer marks the word (`LEFT`): what it asked is decided all the same, and the worker frees the slot. Only what
//! was not taken yet can be taken back, which is what a cancelled or terminated caller does; one whose wait ran out leaves the order to the worker and is told `pending`.
//!
//! **No wake-up is lost.** The caller publishes, then reads the desk's latch; the worker that ends takes its latch away, then looks at the words once more: with a full fence between in both. So either the caller finds
//! no latch and asks the launcher, or the worker finds the request. A worker that dies is missed by the launcher, whom the postmaster tells; it sends another where somebody waits. And a caller that has waited
//! for a second rings again.
//!
//! # Durable when it is told
//!
//! The worker commits with `synchronous_commit = off`, and then flushes the log as far as it goes, so that no row of the table is locked while the disk is waited for. Nobody is told anything before; each caller waits for standbys as its
//! own commits do. So `flush_lsn` may be any position behind that commit, and a stored verdict that is repeated is covered as well: whoever wrote it, it is older.
//! Where verdicts are read otherwise (order_verdicts(), decrement_inventory() for an order that comes again) the reader flushes as far as the commit of the row's writer (src/pg/wal.rs, `make_durable`), of which the server keeps account.
//! That callers flush, one for sixteen others, while the worker is at the next batch, was tried and is slower: batches are smaller, and each caller waits behind two more processes for a processor.
//!
//! # Asleep
//!
//! A caller sleeps on the lower half of its word. What else concerns it (a cancel, a time-out, a message of another session, the postmaster's end) comes as a signal, which ends the sleep; what comes between the look for that and the
//! sleep is found 100 ms later at the latest. A latch instead is a signal, a read of it, and an epoll of three files.
//! Where a crowd waits (`Desk::is_quiet` says no) a caller does not look for its answer before it sleeps, and is scheduled as SCHED_BATCH (src/pg/group/manners.rs).
//!
//! # What a crash leaves
//!
//! - The worker ends (terminated, an error): its slots stay TAKEN. The next one gives them back and decides them anew. If the former had committed, they are stored, and the same are told.
//!   That is right only while there is one: see `Desk::come` and `Desk::take_for_this_database`.
//! - The launcher ends: the workers go on. The postmaster starts another, which finds them at their desks and is told of their ends by a wake-up.
//! - The database is dropped: whoever drops it frees its slots and its desk, since nobody can come who would.
//! - A caller ends: a callback at the end of its process withdraws, or leaves.
//! - A process is killed hard: the postmaster ends all and begins with new memory. Callers lose their connection, and ask again with the same order id.
//!
//! # Nobody waits in a circle
//!
//! Callers wait for the worker, and the deadlock detector knows nothing of that. So the worker waits for nobody: rows are locked with SKIP LOCKED, a table's lock is tried, `lock_timeout` is short for what a trigger
//! waits for. An order that meets a locked item is left, its slot given back, and tried again after a millisecond, then two, up to 64; the others of its batch go on. That a locked item is not an unknown one is told by
//! a plain look at it in a later snapshot. When the caller has left meanwhile, the order is moved into the durable queue and its slot is free.
//! A caller holds no lock that the worker could want: it has no transaction id and no lock but ACCESS SHARE on users' tables (25001), and gives its own back before it waits. What it had read or locked by advice before may still close a circle, through somebody who waits for that:
//! after `deadlock_timeout` the caller looks whether anybody does (src/pg/group/held.rs), and takes its request back.
//!
//! # Who does what as whom
//!
//! Rights, tenant and arguments are checked in the caller, as enqueue_decrement() does. The worker is a superuser's process and runs nothing of a user's as itself: statements on the table run as its owner, restricted, in the
//! tenant's context; deferred triggers are made immediate, since at the commit they would be the worker's.
//!
//! # When a batch fails
//!
//! Everything is rolled back and done again, each table in a subtransaction and halved until the culprit is found: that one's caller gets the error as it is. What another attempt may mend (40001, 40P01, 55P03) is tried again.
//! A culprit's tenant is suspect for a second: its orders for that table go into a transaction apart, after the others', that is taken apart for 50 ms at most and rests for twice as long as it took. So neither who waits for a lock in a trigger nor who sends
//! orders that fail keeps the others waiting for long.

mod became;
mod bisect;
pub mod body;
mod call;
mod launch;
mod round;
mod share;
pub mod slot;
pub mod survey;
mod tables;
mod work;

pub use call::{Outcome, ask};
pub use launch::launch;
pub use work::{is_installed, work};

/// What the slot's word is made of; the model of its unit tests puts its own in this place.
mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

use crate::pg::group::memory;
use crate::pg::{security, settings};

/// Whether `bulkhead.drain_databases` wants a worker in this database.
pub fn is_wanted_here() -> bool {
    if settings::drains_everywhere() {
        return true;
    }
    let wanted = settings::drain_databases();
    wanted.iter().any(|name| name == "*")
        || !wanted.is_empty() && wanted.contains(&memory::database_name(security::database()))
}

/// Wakes this database's worker, or asks for one. None when there is no room for that.
fn ring() -> Option<&'static memory::Desk> {
    let desk = memory::my_desk().and_then(memory::desk)?;
    desk.ring();
    Some(desk)
}
