//! What becomes of queued orders that cannot be decided: set aside, or left waiting.
//!
//! | the error | what becomes of the order |
//! |---|---|
//! | of its rows: data, a constraint, RAISE in a trigger, a row that is not written | set aside |
//! | any other (a missing table or right, a trigger in another language): where an order of the same batch was written | set aside: it is this order's |
//! | the same, where none was written | it waits: it may be the table's, and no order's fault |
//! | another transaction is in the way | it waits |
//! | of the server: memory, disk, shutdown | everything waits |

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::backlog::Waiting;
use super::batch::Busy;
use super::many::{self, Bisection, Order};
use super::table::Inventory;
use crate::pg::queue::{self, DeadLetter};
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{keys, lock_timeout};

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is decided, or set aside.
    Done,
    /// It waits on.
    Left,
    /// There was no time for it.
    Untried,
}

/// What became of some requests.
pub struct Judged {
    /// Of each.
    pub decided: Vec<Fate>,
    /// An error for which some wait that may be the table's.
    pub failure: Option<Failure>,
}

enum Became {
    Done,
    Left,
    Untried,
    Strange(Failure),
}

/// Decides the requests, and sets aside those that cannot be. Nothing is done when this fails.
pub fn decide(inventory: &Rc<Inventory>, requests: &[Waiting], busy: Busy) -> std::result::Result<Judged, Failure> {
    let is_written = Cell::new(false);
    let begun = Instant::now();
    let bisection = Bisection {
        inventory,
        busy,
        told: &|decided, number| {
            is_written.set(is_written.get() || decided.took(number));
            if decided.answers(number).is_some() { Became::Done } else { Became::Left }
        },
        is_an_orders: &|failure| many::may_be_an_orders(failure) && (busy.leaves_items() || !failure.is_transient()),
        failed: &|only: &Waiting, failure| {
            if failure.is_transient() {
                // Somebody is in the way of this one, and of none behind it.
                return Ok(Became::Left);
            }
            if !many::is_an_orders(&failure) {
                return Ok(Became::Strange(failure));
            }
            set_aside_for(only, &failure)?;
            Ok(Became::Done)
        },
        is_over: &|| busy.leaves_items() && begun.elapsed() > many::BISECTION_TIME,
        untried: &|| Became::Untried,
        has_judged: Cell::new(false),
    };
    if busy.leaves_items() {
        // What one order waits for in a trigger, all of its batch wait for.
        lock_timeout::set(lock_timeout::ORDER);
    }
    let became = bisection.decide(&requests.iter().collect::<Vec<_>>())?;
    let mut judged = Judged { decided: Vec::with_capacity(requests.len()), failure: None };
    for (request, became) in requests.iter().zip(became) {
        judged.decided.push(match became {
            Became::Done => Fate::Done,
            Became::Left => Fate::Left,
            Became::Untried => Fate::Untried,
            Became::Strange(failure) if is_written.get() => {
                set_aside_for(request, &failure)?;
                Fate::Done
            }
            Became::Strange(failure) => {
                judged.failure.get_or_insert(failure);
                Fate::Left
            }
        });
    }
    Ok(judged)
}

fn set_aside_for(request: &Waiting, failure: &Failure) -> std::result::Result<(), Failure> {
    let reason = match failure.detail_for_others() {
        Some(detail) => format!("{} ({detail})", failure.message),
        None => failure.message.clone(),
    };
    set_aside(request, failure.spelled(), reason)
}

pub fn set_aside(waiting: &Waiting, sqlstate: String, reason: String) -> std::result::Result<(), Failure> {
    let letter = DeadLetter { set_aside_at: keys::now(), sqlstate, reason };
    subtransaction::kept(|| false, || queue::set_aside(&waiting.request, &letter))
}

impl Order for Waiting {
    fn tenant(&self) -> &[u8] {
        &self.request.tenant
    }

    fn id(&self) -> Option<&[u8]> {
        Some(&self.request.order)
    }

    fn each_line(&self, mut line: impl FnMut(Option<&[u8]>, Option<i64>)) {
        for (item, quantity) in self.request.items.iter().zip(&self.request.quantities) {
            line(item.as_deref(), *quantity);
        }
    }
}
