//! Unit tests of the extension's pure modules, which import no pgrx and need no server.
//!
//! A module is included by its path, for example
//! `#[path = "../../src/context/id.rs"] mod context_id;`
