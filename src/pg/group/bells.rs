//! What a desk's worker is told of queues: which inventories' have something new.

use std::sync::atomic::Ordering;

use super::desk::Desk;

impl Desk {
    /// The queue of the inventory has something new.
    pub fn note_queued(&self, relation: u32) {
        let noted = self.rung.iter().any(|place| {
            place.load(Ordering::SeqCst) == relation
                || place.compare_exchange(0, relation, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        if !noted {
            self.rung_more.store(true, Ordering::SeqCst);
        }
    }

    /// All inventories' queues are to be looked at.
    pub fn note_all(&self) {
        self.rung_more.store(true, Ordering::SeqCst);
    }

    /// The inventories whose queues have something new; None for all.
    pub fn take_queued(&self) -> Option<Vec<u32>> {
        let taken: Vec<u32> =
            self.rung.iter().map(|place| place.swap(0, Ordering::SeqCst)).filter(|relation| *relation != 0).collect();
        (!self.rung_more.swap(false, Ordering::SeqCst)).then_some(taken)
    }

    pub fn is_rung(&self) -> bool {
        self.rung_more.load(Ordering::SeqCst) || self.rung.iter().any(|place| place.load(Ordering::SeqCst) != 0)
    }

    pub(super) fn empty_bells(&self) {
        self.take_queued();
    }
}
