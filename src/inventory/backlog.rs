//! What waits in the queue of an inventory, as this backend knows it: in the order of the requests' numbers, found a page at a time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::cell::PerBackend;
use crate::pg::queue::{self, Request, SEGMENTS, Seen, Segment, Tid};
use crate::pg::watch;

/// A request, and where its row lies.
pub struct Waiting {
    pub request: Request,
    pub segment: usize,
    pub tid: Tid,
}

#[derive(Default)]
struct Backlog {
    seen: [Seen; SEGMENTS.len()],
    /// Numbers and places, the smallest number first.
    found: VecDeque<(i64, usize, Tid)>,
    /// What `watch` had counted then.
    found_at: u64,
}

type Backlogs = HashMap<u32, Backlog>;

static KNOWN: PerBackend<RefCell<Option<Backlogs>>> = PerBackend::new(RefCell::new(None));
/// A batch was taken and not finished: what is known is not to be relied on.
static TAKING: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));
/// A batch was finished in this transaction, which may yet be rolled back, and bring back what the batch deleted.
static FINISHED: PerBackend<Cell<bool>> = PerBackend::new(Cell::new(false));

/// The next requests of the inventory, but for some numbers. The caller holds its drain lock, decides and deletes them, and says `taken`.
pub fn take(relation: pg_sys::Oid, most: usize, except: &HashSet<i64>) -> Result<Vec<Waiting>> {
    let mut known = KNOWN.borrow_mut();
    if TAKING.replace(true) {
        *known = None;
        FINISHED.set(false);
    }
    let backlog = known.get_or_insert_default().entry(relation.to_u32()).or_default();
    let segments = [Segment::open(0)?, Segment::open(1)?, Segment::open(2)?, Segment::open(3)?];
    watch::on(&segments.each_ref().map(Segment::oid));
    // Rows may have moved on: to another place, with the same number.
    if backlog.found_at != watch::changes()
        || segments.iter().zip(&backlog.seen).any(|(segment, seen)| seen.is_outdated(segment))
    {
        backlog.found.clear();
    }
    let mut taken = next(backlog, &segments, most, except);
    if taken.len() < most {
        // What is known is used up: look for more.
        let passed: HashSet<(usize, Tid)> = taken.iter().map(|waiting| (waiting.segment, waiting.tid)).collect();
        backlog.found.clear();
        let mut found = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            queue::scan(segment, &mut backlog.seen[number], relation, |request, tid| {
                if !passed.contains(&(number, tid)) {
                    found.push((request, number, tid));
                }
            });
        }
        found.sort_unstable_by_key(|(request, ..)| *request);
        backlog.found = found.into();
        backlog.found_at = watch::changes();
        let more = next(backlog, &segments, most - taken.len(), except);
        taken.extend(more);
        taken.sort_by_key(|waiting| waiting.request.number);
    }
    Ok(taken)
}

fn next(backlog: &mut Backlog, segments: &[Segment], most: usize, except: &HashSet<i64>) -> Vec<Waiting> {
    let mut taken = Vec::new();
    while taken.len() < most
        && let Some((number, segment, tid)) = backlog.found.pop_front()
    {
        if except.contains(&number) {
            continue;
        }
        // Another session may have drained it.
        if let Some(request) = segments[segment].request(tid, number) {
            taken.push(Waiting { request, segment, tid });
        }
    }
    taken
}

/// The batch is finished.
pub fn taken() {
    TAKING.set(false);
    FINISHED.set(true);
}

/// The transaction, or a part of it, was rolled back: rows that a finished batch deleted wait again, on pages that have not changed for it.
pub fn rolled_back() {
    if FINISHED.get() {
        TAKING.set(true);
    }
}

/// Nothing is known any more: some of what was taken waits on.
pub fn forget() {
    if let Ok(mut known) = KNOWN.try_borrow_mut() {
        *known = None;
    }
}
