//! What has to be known of the tenant before a statement is planned: little, for every statement asks.

use super::revocation::Stamp;
use super::state;

#[derive(Clone, Copy)]
pub struct Before {
    stamp: Stamp,
    fixed: bool,
}

impl Before {
    #[inline(always)]
    pub fn now() -> Before {
        Before { stamp: state::value_stamp(), fixed: state::is_fixed() }
    }

    /// The value is not the one that it was.
    #[inline(always)]
    pub fn is_over(self) -> bool {
        self.stamp != state::value_stamp()
    }

    /// A tenant is in force that was not in force then.
    pub fn has_another_come(self) -> bool {
        self.is_over() && !self.fixed && state::is_of_the_transaction()
    }
}
