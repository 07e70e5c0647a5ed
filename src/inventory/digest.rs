//! What stands for an order in the index of verdicts. Pure Rust.

use aws_lc_rs::digest::{Context, SHA256};

/// The digest of (inventory, tenant, order), bytes as they are.
pub fn digest(inventory: &[u8; 16], tenant: &[u8], order: &[u8]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    context.update(inventory);
    // The length tells where the tenant ends.
    context.update(&(tenant.len() as u64).to_be_bytes());
    context.update(tenant);
    context.update(order);
    let mut digest = [0; 16];
    digest.copy_from_slice(&context.finish().as_ref()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn tenant_and_order_do_not_run_into_each_other() {
        assert_ne!(digest(&[1; 16], b"a", b"bc"), digest(&[1; 16], b"ab", b"c"));
        assert_ne!(digest(&[1; 16], b"", b"abc"), digest(&[1; 16], b"abc", b""));
        assert_ne!(digest(&[1; 16], b"a", b"o"), digest(&[2; 16], b"a", b"o"));
        assert_eq!(digest(&[1; 16], b"a", b"o"), digest(&[1; 16], b"a", b"o"));
    }
}
