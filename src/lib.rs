//! Bulkhead: multi-tenancy for PostgreSQL that is safe and fast from inside the database.
//!
//! The rooms, each with its SQL in sql/<room>.sql, its tests in pg_test/tests/suite/<room>.rs and its page in docs/<room>.md (leak_test: leak-test.md):
//! - `context`: the tenant that the current transaction acts for
//! - `rls`: protect() a table in one call
//! - `observe`: which statements protect() would refuse, before it does
//! - `seal`: protected tables stay filtered for every role
//! - `lint`: finds what would let a tenant see another's rows
//! - `partition`: makes the partitions of tables ahead, and drops them when they are past retention
//! - `leak_test`: tries to cross the border, as every role, and rolls it back
//! - `idempotency`: work that a client may ask for twice is done once
//! - `inventory`: many orders for few items, decided in batches
//! - `scoring`: rules as JSON, compiled, that say what a document is worth
//! - `operations`: what is watched of all of them
//!
//! `pg` is the bridge to the server and the only room that steps outside safe Rust; `error` names the SQLSTATEs
//! that are raised; `calendar`, `fnv` and `type_oid` are pure Rust for several rooms.

use pgrx::prelude::*;

mod calendar;
mod context;
mod error;
mod fnv;
mod idempotency;
mod inventory;
mod leak_test;
mod lint;
mod observe;
mod operations;
mod partition;
mod pg;
mod rls;
mod scoring;
mod seal;
mod type_oid;

::pgrx::pg_module_magic!(name, version);

// Each room's script requires the one before: with one order for all, every build makes the same script.
::pgrx::extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);

/// Called by the server when the library is loaded, in the postmaster or in a backend.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::library::silence_backtraces();
    pg::library::note();
    pg::settings::define();
    pg::board::reserve();
    pg::counters::reserve();
    pg::group::memory::reserve();
    pg::group::processes::register();
    pg::transaction::register();
    pg::registry::register();
    pg::hooks::install();
    // What was planned before carries none of the tags that the hooks look for.
    pg::planned_stmt::forget_cached();
}
