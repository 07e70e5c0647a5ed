//! The bridge to the server: the only room where `unsafe` may live. Each block says why it is sound; what the
//! features see of it are safe functions.

pub mod accessors;
pub mod board;
pub mod cell;
pub mod claims;
pub mod client;
pub mod copy;
pub mod cursors;
pub mod ddl;
mod executor;
pub mod expression;
pub mod filter;
pub mod foreign_key;
pub mod hold;
pub mod hooks;
pub mod interrupts;
pub mod keys;
pub mod library;
pub mod list;
pub mod locks;
pub mod name;
pub mod nesting;
pub mod plan;
pub mod planning;
pub mod registry;
pub mod scan;
pub mod scoring;
pub mod security;
pub mod settings;
pub mod spi;
pub mod subtransaction;
pub mod switch;
pub mod timeout;
pub mod transaction;
pub mod utility;
pub mod worker;
