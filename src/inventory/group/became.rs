//! What became of a request in a round.

use super::super::fold::Answer;
use super::super::many;
use super::body::Fault;
use crate::pg::group::processes;
use crate::pg::subtransaction::Failure;

/// What became of a request.
pub enum Became {
    Told(Vec<Answer>),
    Failed(Fault),
    /// Another transaction is at its items, or at the order itself.
    Left,
    /// It failed, in a way that may pass.
    Stuck,
    /// There was no time for it.
    Untried,
}

impl Became {
    pub fn of(decided: &many::Decided, number: usize) -> Became {
        decided.answers(number).map_or(Became::Left, |answers| Became::Told(answers.to_vec()))
    }

    /// The request's own error.
    pub fn failure(failure: &Failure) -> Became {
        if failure.is_transient() || failure.is_cancel {
            return Became::Stuck;
        }
        Became::Failed(Fault {
            sqlstate: failure.sqlstate,
            message: failure.message.clone(),
            detail: failure.detail_for_others().map(str::to_owned),
            hint: failure.hint.clone(),
        })
    }

    /// An error of a batch, and nobody's in particular: its texts might be another's.
    pub fn nobodys(failure: &Failure, orders: usize) -> Vec<Became> {
        if failure.is_transient() || failure.is_cancel {
            return (0..orders).map(|_| Became::Stuck).collect();
        }
        processes::log(&format!("bulkhead could not decide {orders} orders: {}", failure.message));
        let fault = Fault {
            sqlstate: failure.sqlstate,
            message: "the batch of the order could not be decided".into(),
            detail: None,
            hint: Some("The server's log says more. Try again with the same order_id.".into()),
        };
        (0..orders).map(|_| Became::Failed(fault.clone())).collect()
    }
}
