//! Claiming a key.

use super::asked::{Asked, checked_lease};
use super::decide;
use crate::error::{self, Result};
use crate::partition;
use crate::pg::keys::{self, Found, Json, NewRow};
use crate::pg::settings;

/// What a claim is told.
pub struct Answer {
    pub state: &'static str,
    pub status: Option<i32>,
    pub response: Option<Json>,
    pub attempt: i32,
    pub fence: Option<i64>,
}

/// `idempotency_claim(key text, fingerprint text, lease interval)`; `lease` in microseconds.
///
/// Errors: 22023 an empty key, a lease that is not positive or longer than the window, a UUIDv7 dated more than five minutes ahead; 42501
/// no tenant; 25006 read-only. Locks: the key's, for the look-up; ROW EXCLUSIVE on the partitions it looks into. Never waits for another
/// transaction to end.
pub fn claim(key: Option<&[u8]>, fingerprint: Option<&[u8]>, lease: Option<i64>) -> Result<Answer> {
    let asked = Asked::new(c"idempotency_claim()", key)?;
    let lease = checked_lease(lease)?;
    // The partition for now may have to be made, or midnight may pass between looking and locking.
    for _ in 0..8 {
        let leaves = keys::leaves()?;
        if leaves.at(keys::now()).is_none() {
            partition::ensure_ours(leaves.parent, keys::leaves)?;
            continue;
        }
        let answer = keys::locked(&asked.digest.lock, || {
            keys::catch_up();
            claim_now(&asked, fingerprint, lease)
        })?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    Err(partition::not_there("bulkhead.idempotency_key"))
}

/// Under the key's lock; none when there is no partition for now.
fn claim_now(asked: &Asked, fingerprint: Option<&[u8]>, lease: i64) -> Result<Option<Answer>> {
    let leaves = keys::leaves()?;
    let now = keys::now();
    if asked.is_dated_ahead(now) {
        return Err(error::argument(
            "the idempotency key is dated more than five minutes ahead",
            "It is a UUIDv7 whose date lies in the future: mend the client's clock, or use another kind of key.",
        ));
    }
    let Some(leaf) = leaves.at(now) else { return Ok(None) };
    let Some(search) = asked.find(&leaves, now)? else { return Ok(None) };
    let Some(table) = search.first() else { return Ok(None) };
    let stored = search.row().map(|(_, _, found)| found);
    let known = stored.map(Found::known).transpose()?;
    let answer = |state: &'static str, replayed: bool| Answer {
        state,
        status: stored.filter(|_| replayed).and_then(Found::status),
        response: stored.filter(|_| replayed).and_then(Found::response),
        attempt: known.as_ref().map_or(1, |known| known.attempt),
        fence: None,
    };
    let (attempt, fence) = match decide::claim(known.as_ref(), fingerprint, now, settings::idempotency_window()) {
        decide::Claim::Replay => return Ok(Some(answer("replay", true))),
        decide::Claim::InProgress => return Ok(Some(answer("in_progress", false))),
        decide::Claim::Mismatch => return Ok(Some(answer("mismatch", false))),
        decide::Claim::Start { attempt, fence } => (attempt, fence),
    };
    let row = NewRow {
        digest: &asked.digest.indexed,
        tenant: &asked.tenant,
        key: asked.key,
        fingerprint,
        claimed_at: now,
        lease_until: now.saturating_add(lease),
        fence,
        attempt,
    };
    match search.row() {
        // In place: the partition is the one for now.
        Some((_, place, found)) if place.table == leaf.table => table.start_again(found, &row),
        other => {
            let carried = match other {
                // Taken over: what the first request was stays known.
                Some(_) if attempt > 1 => known.as_ref().and_then(|known| known.fingerprint),
                _ => None,
            };
            table.insert(&NewRow { fingerprint: fingerprint.or(carried), ..row });
            if let Some((old_table, _, old)) = other {
                old_table.delete(old);
            }
        }
    }
    Ok(Some(Answer { state: "started", status: None, response: None, attempt, fence: Some(fence) }))
}
