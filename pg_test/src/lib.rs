//! What Bulkhead is proved with: a throwaway PostgreSQL server and honest clients for it.
//!
//! Nothing here links the extension. Everything talks to a real server over a real connection,
//! mostly as a plain role, because row security never binds the superuser.
//!
//! | room | what it is for |
//! |---|---|
//! | [`provision`] | finds or installs what a build needs, and builds the extension when it changed |
//! | [`cluster`] | a private server in a temporary directory that never outlives its runner |
//! | [`client`], [`expect`] | connections, short queries, and assertions on every field of an error |
//! | [`interleave`] | sessions whose steps run in a given order, with a transcript to compare |
//! | [`pooler`] | a real pgbouncer in front of a cluster |
//! | [`differential`] | the same script on a plain and on a sealed database |
//! | [`doctest`] | runs the SQL of the documentation and compares what it prints |
//! | [`bench`] | what Bulkhead costs, beside the best that is written without it |
//! | [`debian`] | a Debian package of the extension |
//! | [`chaos`] | a load of all rooms on a server that is killed again and again |
//! | [`arguments`] | what the programs read from their command lines alike |
//! | [`progress`] | tells the person at the terminal what takes so long |

pub mod arguments;
pub mod bench;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod debian;
pub mod differential;
pub mod doctest;
pub mod expect;
pub mod interleave;
pub mod pooler;
pub mod progress;
pub mod provision;

pub use client::{Client, refused};
pub use cluster::{Cluster, Database, Preload};
pub use expect::{Expect, Refused, expect_error};

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir)
}

/// Where everything that is built goes; the same directory that the outer cargo uses.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// True when the environment variable is set to something that is not empty, `0` or `false`.
pub fn flag(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
