//! Finishing, releasing and extending what was claimed: by the one who holds it.

use std::rc::Rc;

use pgrx::prelude::*;

use super::asked::{Asked, checked_lease};
use super::decide::{self, Known, Refusal};
use super::key::shown;
use crate::error::{self, Result};
use crate::partition;
use crate::pg::keys::{self, Found, Json, Leaf, Table};
use crate::pg::settings;

/// `idempotency_complete(key text, status integer, response jsonb, fence bigint)`.
///
/// Errors: 55000 the key is not held under this fence; 54000 the response is too large; 22023, 42501, 25006 as claim(). Waits for another
/// transaction that has taken the key over and not ended.
pub fn complete(key: Option<&[u8]>, status: Option<i32>, response: Option<Json>, fence: Option<i64>) -> Result<()> {
    let asked = Asked::new(c"idempotency_complete()", key)?;
    let limit = settings::idempotency_response_limit();
    if let Some(size) = response.map(Json::size).filter(|size| *size > limit) {
        return Err(error::limit(
            format!("the response has {size} bytes, more than bulkhead.idempotency_response_limit ({limit})"),
            "Store what the client needs to go on, such as an id, or raise the limit.",
        ));
    }
    as_holder(&asked, fence, |table, _, found, _, now| {
        table.finish(found, status, response, now);
        Ok(true)
    })
}

/// `idempotency_release(key text, fence bigint)`: the next claim starts at once. Errors as complete().
pub fn release(key: Option<&[u8]>, fence: Option<i64>) -> Result<()> {
    let asked = Asked::new(c"idempotency_release()", key)?;
    as_holder(&asked, fence, |table, _, found, _, _| {
        table.release(found);
        Ok(true)
    })
}

/// `idempotency_extend(key text, lease interval, fence bigint)`: from now on; `lease` in microseconds. Errors as complete().
pub fn extend(key: Option<&[u8]>, lease: Option<i64>, fence: Option<i64>) -> Result<()> {
    let asked = Asked::new(c"idempotency_extend()", key)?;
    let lease = checked_lease(lease)?;
    as_holder(&asked, fence, |table, place, found, leaves, now| {
        let until = now.saturating_add(lease);
        // The row must not expire before the lease does: it moves on with the time, and not back with a clock that was put back, where
        // a key that carries its date would not be looked for.
        let at = found.known()?.claimed_at.max(now);
        match leaves.at(at) {
            Some(leaf) if leaf.table != place.table => {
                let target = Table::open(&leaf).filter(|_| keys::are_current(leaves));
                let Some(target) = target else { return Ok(false) };
                found.move_to(&target, at, until);
                table.delete(found);
            }
            Some(_) => table.extend(found, at, until),
            None => return Ok(false),
        }
        Ok(true)
    })
}

/// Finds the row, sees to it that the one with this fence holds it, and does `work`, which returns false to be called again.
fn as_holder(
    asked: &Asked,
    fence: Option<i64>,
    work: impl Fn(&Table, &Leaf, &Found, &Rc<keys::Leaves>, i64) -> Result<bool>,
) -> Result<()> {
    enum Outcome {
        Done,
        Again,
        WaitFor(pg_sys::TransactionId),
    }
    loop {
        pgrx::check_for_interrupts!();
        let outcome = keys::locked(&asked.digest.lock, || -> Result<Outcome> {
            keys::catch_up();
            let leaves = keys::leaves()?;
            let now = keys::now();
            let Some(search) = asked.find(&leaves, now)? else { return Ok(Outcome::Again) };
            let row = search.row();
            if let Some(writer) = row.and_then(|(_, _, found)| found.writer) {
                return Ok(Outcome::WaitFor(writer));
            }
            let known = row.map(|(_, _, found)| found.known()).transpose()?;
            decide::holds(known.as_ref(), fence).map_err(|refusal| refused(asked, refusal, known.as_ref()))?;
            match row {
                Some((table, leaf, found)) if work(table, leaf, found, &leaves, now)? => Ok(Outcome::Done),
                _ => Ok(Outcome::Again),
            }
        })?;
        match outcome {
            Outcome::Done => return Ok(()),
            // A partition has come or gone, or there is none for now. Made without the key's lock, which nothing may wait under.
            Outcome::Again => partition::ensure_ours(keys::leaves()?.parent, keys::leaves)?,
            // Without the key's lock: others may look meanwhile.
            Outcome::WaitFor(transaction) => keys::wait_for(transaction),
        }
    }
}

fn refused(asked: &Asked, refusal: Refusal, known: Option<&Known>) -> pgrx::pg_sys::panic::ErrorReport {
    let key = shown(asked.key);
    let (message, detail, hint) = match refusal {
        Refusal::NotClaimed => (
            format!("idempotency key {key} is not claimed"),
            "There is no claim of it in the window: it was never made, or it was rolled back.".to_owned(),
            "Claim it first, and go on only where the state is started.",
        ),
        Refusal::TakenOver => (
            format!("idempotency key {key} was taken over"),
            format!(
                "The lease ran out, and attempt {} began. What this one did must not count.",
                known.map_or(0, |known| known.attempt)
            ),
            "Roll back. Claim with a longer lease, or extend it while the work runs.",
        ),
        Refusal::NeedsFence => (
            format!("idempotency key {key} was claimed more than once"),
            format!(
                "This is attempt {}; without a fence only the first may finish.",
                known.map_or(0, |known| known.attempt)
            ),
            "Pass the fence that idempotency_claim() returned.",
        ),
        Refusal::Finished => (
            format!("idempotency key {key} is finished"),
            "Its answer is stored and does not change.".to_owned(),
            "Claim it to read the answer.",
        ),
        Refusal::Released => (
            format!("idempotency key {key} was released"),
            "Nobody holds it.".to_owned(),
            "Claim it again, and go on only where the state is started.",
        ),
    };
    error::state(message, detail, hint)
}
