//! What every call is about: a key of the transaction's tenant, and where its row may lie.

use std::rc::Rc;

use super::key::{self, Digest};
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::keys::{self, Found, Leaf, Table};
use crate::pg::{client, settings, version};

/// The clocks of a client and of the server may differ by so much.
const CLOCK_SKEW: i64 = 5 * 60 * 1_000_000;
/// Microseconds from 1970 to 2000, where the server's timestamps begin.
const EPOCH: i64 = 946_684_800_000_000;

/// The partitions that were looked into, the one for now first if there is one, and the key's row if one of them has it.
pub struct Search {
    tables: Vec<(Table, Leaf)>,
    row: Option<Found>,
}

impl Search {
    /// The row, and the partition that it lies in: the one that was looked into last.
    pub fn row(&self) -> Option<(&Table, &Leaf, &Found)> {
        let (table, leaf) = self.tables.last()?;
        self.row.as_ref().map(|found| (table, leaf, found))
    }

    pub fn first(&self) -> Option<&Table> {
        self.tables.first().map(|(table, _)| table)
    }
}

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
        client::refuse_read_only(function);
        version::require()?;
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| {
            error::argument(
                "an idempotency key must not be empty",
                "Pass the client's Idempotency-Key header; answer 400 when there is none.",
            )
        })?;
        let tenant = state::with_tenant(|tenant| tenant.id().to_vec());
        if tenant.is_empty() {
            return Err(error::no_tenant("an idempotency key", false));
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

    /// Looks for the key's row. Under the key's lock. None: the partitions are not those any more.
    ///
    /// A key has one row at most, so the order is free: the partition for now first, which has most of what is asked for. Those ahead have
    /// rows only where the clock was put back; like every other that is empty they are not searched.
    pub fn find(&self, leaves: &Rc<keys::Leaves>, now: i64) -> Result<Option<Search>> {
        let mut search = Search { tables: Vec::new(), row: None };
        let present = leaves.at(now);
        let others =
            leaves.since(self.earliest(now)).filter(|leaf| !present.is_some_and(|one| one.table == leaf.table));
        for leaf in present.into_iter().chain(others) {
            let Some(table) = Table::open(&leaf) else { return Ok(None) };
            let is_present = search.tables.is_empty() && present.is_some();
            if !is_present && table.is_empty() {
                continue;
            }
            // It is locked: only now is it certain that it was not detached, and that the index is still its own.
            if !keys::are_current(leaves) {
                return Ok(None);
            }
            search.row = table.find(&self.digest.indexed);
            search.tables.push((table, leaf));
            if let Some(found) = &search.row {
                found.belongs_to(&self.tenant, self.key)?;
                return Ok(Some(search));
            }
        }
        // None was attached or detached while others were searched.
        Ok(keys::are_current(leaves).then_some(search))
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
