//! What every call is about: a key of the transaction's tenant, and where its row may lie.

use std::rc::Rc;

use super::key::{self, Digest};
use crate::context::state;
use crate::error::{self, Result};
use crate::partition;
use crate::pg::keys::{self, Found, Leaf, Table};
use crate::pg::settings;

/// The clocks of a client and of the server may differ by so much.
const CLOCK_SKEW: i64 = 5 * 60 * 1_000_000;
/// Microseconds from 1970 to 2000, where the server's timestamps begin.
const EPOCH: i64 = 946_684_800_000_000;

/// A key's row, and where it lies.
pub type Row = (Table, Leaf, Found);

/// A call's key, for the transaction's tenant.
pub struct Asked<'a> {
    pub tenant: Vec<u8>,
    pub key: &'a [u8],
    pub digest: Digest,
    /// The key's own date, if it is a UUIDv7.
    date: Option<i64>,
}

impl<'a> Asked<'a> {
    pub fn new(function: &std::ffi::CStr, key: Option<&'a [u8]>) -> Result<Asked<'a>> {
        keys::refuse_read_only(function);
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| {
            error::argument(
                "an idempotency key must not be empty",
                "Pass the client's Idempotency-Key header; answer 400 when there is none.",
            )
        })?;
        let tenant = state::with_tenant(|tenant| tenant.id().to_vec());
        if tenant.is_empty() {
            let (lost, hidden) = (state::ended_with_its_transaction(), state::is_hidden());
            return Err(error::no_tenant("an idempotency key", lost, hidden, false));
        }
        state::touch();
        let digest = key::digest(&tenant, key);
        Ok(Asked { tenant, key, digest, date: key::date(key).map(|date| date - EPOCH) })
    }

    /// No row of the key can be older: of no interest before the window, and not there before the date that the key itself carries.
    fn earliest(&self, now: i64) -> i64 {
        let window = now.saturating_sub(settings::idempotency_window());
        self.date.map_or(window, |date| window.max(date.saturating_sub(CLOCK_SKEW)))
    }

    pub fn is_dated_ahead(&self, now: i64) -> bool {
        self.date.is_some_and(|date| date > now.saturating_add(CLOCK_SKEW))
    }

    /// The key's row, with the partition that it lies in. Under the key's lock. The outer None: the partitions are not those any more.
    pub fn find(&self, leaves: &Rc<keys::Leaves>, now: i64, writes: bool) -> Result<Option<Option<Row>>> {
        // A partition that is gone since took nothing with it that the window reaches.
        let open = |leaf: Leaf| Table::open(&leaf, writes).map(|table| (table, leaf));
        let opened: Vec<(Table, Leaf)> = leaves.since(self.earliest(now)).filter_map(open).collect();
        // All are locked: only now is it certain that none was detached, and that the indexes are still theirs.
        if !keys::are_current(leaves) {
            return Ok(None);
        }
        for (table, leaf) in opened {
            if let Some(found) = table.find(&self.digest.indexed) {
                found.belongs_to(&self.tenant, self.key)?;
                return Ok(Some(Some((table, leaf, found))));
            }
        }
        Ok(Some(None))
    }
}

/// A lease in microseconds, if it is one.
pub fn checked_lease(lease: Option<i64>) -> Result<i64> {
    let window = settings::idempotency_window();
    lease.filter(|lease| (1..=window).contains(lease)).ok_or_else(|| {
        error::argument(
            "a lease must be positive and no longer than bulkhead.idempotency_window",
            "Claim for as long as the work may take, a minute for example, and extend while it runs.",
        )
    })
}

/// Sees to it that there is a partition for now.
pub fn make_room(leaves: &keys::Leaves) -> Result<()> {
    partition::ensure(leaves.parent, || {
        keys::catch_up();
        Ok(keys::leaves()?.at(keys::now()).is_some())
    })
}
