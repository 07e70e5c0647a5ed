//! One cluster of each kind for a whole run of tests, each started when first asked for.

use std::sync::OnceLock;

use anyhow::{Error, Result};

use super::{Cluster, Preload};
use crate::progress;

type Slot = OnceLock<Result<Cluster, String>>;

static SHARED: Slot = OnceLock::new();
static WORKERS: Slot = OnceLock::new();
static SESSION: Slot = OnceLock::new();
static NONE: Slot = OnceLock::new();

/// The cluster with the library in `shared_preload_libraries`. No workers run there: what is queued waits until a test drains it.
pub fn shared() -> Result<Cluster> {
    get(&SHARED, Preload::Shared, "started a server", &[("bulkhead.drain_databases", "")])
}

/// The same with workers, in every database that asks for one.
pub fn with_workers() -> Result<Cluster> {
    get(&WORKERS, Preload::Shared, "started a server with workers", &[])
}

/// The cluster with the library in `session_preload_libraries`.
pub fn session_preload() -> Result<Cluster> {
    get(&SESSION, Preload::Session, "started a server with session preload", &[])
}

/// The cluster that has no preloaded library.
pub fn without_preload() -> Result<Cluster> {
    get(&NONE, Preload::None, "started a server without preload", &[])
}

/// Ends those that were started.
pub fn end_all() {
    for slot in [&SHARED, &WORKERS, &SESSION, &NONE] {
        if let Some(Ok(cluster)) = slot.get() {
            cluster.end();
        }
    }
}

fn get(slot: &Slot, preload: Preload, title: &str, settings: &[(&str, &str)]) -> Result<Cluster> {
    slot.get_or_init(|| {
        let builder = Cluster::builder().preload(preload);
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value));
        progress::stage(title, || builder.start()).map_err(|error| format!("{error:#}"))
    })
    .clone()
    .map_err(Error::msg)
}
