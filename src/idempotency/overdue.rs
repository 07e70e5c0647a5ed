//! Claims that nobody came back for: what health() says of them.

use super::decide::Stage;
use super::key;
use crate::error::Result;
use crate::pg::keys;
use crate::pg::settings;

/// What ran out and was neither finished, released nor taken over.
pub struct Overdue {
    /// Microseconds since the first of these leases ran out.
    pub longest: i64,
    pub claims: u64,
    /// The first: whose it is, and the key, for a message.
    pub tenant: String,
    pub key: String,
}

/// All tenants' overdue claims inside the window: older ones cannot be finished any more, and start anew when they come back.
///
/// Reads every key of the window. None where there is no overdue claim.
pub fn overdue() -> Result<Option<Overdue>> {
    let now = keys::now();
    let window = now.saturating_sub(settings::idempotency_window());
    let mut claims = 0;
    let mut first: Option<(i64, String, String)> = None;
    for leaf in keys::leaves()?.since(window) {
        keys::each_committed(&leaf, |row| {
            if row.stage() != Some(Stage::Started) || row.claimed_at() < window || row.lease_until() > now {
                return;
            }
            claims += 1;
            let until = row.lease_until();
            if first.as_ref().is_none_or(|(least, ..)| until < *least) {
                first = Some((until, key::shown(row.tenant()), key::shown(row.key())));
            }
        });
    }
    Ok(first.map(|(until, tenant, key)| Overdue { longest: now - until, claims, tenant, key }))
}
