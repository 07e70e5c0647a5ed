//! One cluster of each kind for a whole run of tests, each started when first asked for.

use std::sync::OnceLock;

use anyhow::{Error, Result};

use super::{Cluster, Preload};
use crate::progress;

type Slot = OnceLock<Result<Cluster, String>>;

static SHARED: Slot = OnceLock::new();
static SESSION: Slot = OnceLock::new();
static NONE: Slot = OnceLock::new();

/// The cluster with the library in `shared_preload_libraries`.
pub fn shared() -> Result<Cluster> {
    get(&SHARED, Preload::Shared)
}

/// The cluster with the library in `session_preload_libraries`.
pub fn session_preload() -> Result<Cluster> {
    get(&SESSION, Preload::Session)
}

/// The cluster that has no preloaded library.
pub fn without_preload() -> Result<Cluster> {
    get(&NONE, Preload::None)
}

/// Ends those that were started.
pub fn end_all() {
    for slot in [&SHARED, &SESSION, &NONE] {
        if let Some(Ok(cluster)) = slot.get() {
            cluster.end();
        }
    }
}

fn get(slot: &Slot, preload: Preload) -> Result<Cluster> {
    slot.get_or_init(|| {
        let title = match preload {
            Preload::Shared => "started a server",
            Preload::Session => "started a server with session preload",
            Preload::None => "started a server without preload",
        };
        progress::stage(title, || Cluster::builder().preload(preload).start()).map_err(|error| format!("{error:#}"))
    })
    .clone()
    .map_err(Error::msg)
}
