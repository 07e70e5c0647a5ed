//! The SQL functions of inventories that have to be raw: a batch is hundreds of lines, and users' triggers run inside.

mod arguments;
mod calls;
mod output;
mod registered;

pub use output::{Output, Told};
pub use registered::{all_registered, registered, some_are_away};
