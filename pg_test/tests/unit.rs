//! Unit tests of the extension's pure modules, which import no pgrx and need no server.

// What only the server calls has no caller here.
#![allow(dead_code)]

#[path = "../../src/calendar.rs"]
mod calendar;

#[path = "../../src/fnv.rs"]
mod fnv;

#[path = "../../src/type_oid.rs"]
mod type_oid;

#[path = "../../src/context"]
mod context {
    pub mod lock;
    pub mod revocation;
    pub mod tenant;
    pub mod token;
}

#[path = "../../src/idempotency"]
mod idempotency {
    pub mod decide;
    pub mod key;
}

#[path = "../../src/inventory"]
mod inventory {
    pub mod bloom_filter;
    pub mod digest;
    pub mod fold;
    pub mod item;

    pub mod group {
        pub mod body;
        pub mod share;
        pub mod slot;
        #[path = "../../pg/group/slot_model.rs"]
        mod slot_model;

        mod atomic {
            pub use loom::sync::atomic::{AtomicU64, Ordering};
        }
    }
}

#[path = "../../src/observe"]
mod observe {
    pub mod normalise;
}

#[path = "../../src/rls"]
mod rls {
    pub mod facts;
    pub mod key;
    pub mod online_steps;
    pub mod shared;
    pub mod steps;
}

#[path = "../../src/leak_test"]
mod leak_test {
    pub mod attempts;
}

#[path = "../../src/lint"]
mod lint {
    pub mod catalogue;
    pub mod flaws;
}

#[path = "../../src/partition"]
mod partition {
    pub mod bound;
    pub mod due;
    pub mod lock_backoff;
    pub mod name;
    pub mod readable;
    pub mod span;
    pub mod time;
}

#[path = "../../src/scoring"]
mod scoring {
    pub mod arithmetic;
    pub mod build;
    pub mod cache;
    pub mod call;
    pub mod compare;
    pub mod compile;
    pub mod date;
    pub mod decimal;
    pub mod each;
    pub mod encode;
    pub mod fault;
    pub mod intern;
    pub mod jsonb;
    pub mod look;
    pub mod number;
    pub mod operator;
    pub mod program;
    pub mod rules;
    pub mod run;
    pub mod score;
    pub mod text;
    pub mod value;

    mod tests;
}
