//! context: what setting the tenant costs.
fn main() {}
