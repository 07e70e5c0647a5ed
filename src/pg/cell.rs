//! Statics of a backend.

use std::ops::Deref;

/// A static that one backend process owns. Cells go inside: `PerBackend<Cell<u64>>`.
pub struct PerBackend<T>(T);

impl<T> PerBackend<T> {
    pub const fn new(value: T) -> PerBackend<T> {
        PerBackend(value)
    }
}

// SAFETY: a PostgreSQL backend runs extension code on one thread only, and each backend is a process with its own copy.
unsafe impl<T> Sync for PerBackend<T> {}

impl<T> Deref for PerBackend<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Statics that every statement reads: they lie together, on as few cache lines as there can be.
macro_rules! hot {
    ($($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;)*) => {$(
        $(#[$doc])*
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".data.hot.bulkhead"))]
        static $name: $type = $value;
    )*};
}
pub(crate) use hot;
