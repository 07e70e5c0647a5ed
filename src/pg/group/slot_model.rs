//! Every order of the steps of callers and workers, tried one by one (loom): an answer belongs to its request, nothing is lost, and nobody
//! touches a slot that is another's.
//!
//! Of the unit tests (pg_test/tests/unit.rs), and here because what a slot carries is memory that several share.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;

use super::slot::{Leaving, Word};

const DATABASE: u32 = 5;

/// Every order of steps in which a thread is taken off at most so often where it could go on: two requests one after the other have more orders than can be tried in a minute.
const PREEMPTIONS: usize = 3;

/// A slot with what it carries, and how often each request was decided.
struct Slot {
    word: Word,
    request: UnsafeCell<u64>,
    answer: UnsafeCell<u64>,
}

impl Slot {
    fn new() -> Slot {
        Slot { word: Word::new(), request: UnsafeCell::new(0), answer: UnsafeCell::new(0) }
    }

    fn ask(&self, request: u64) {
        // SAFETY: loom fails where another touches it at the same time.
        self.request.with_mut(|place| unsafe { *place = request });
        self.word.publish(DATABASE);
    }

    fn decide(&self) -> u64 {
        // SAFETY: as above.
        let request = self.request.with(|place| unsafe { *place });
        // SAFETY: as above.
        self.answer.with_mut(|place| unsafe { *place = request + 100 });
        request
    }

    fn answer(&self) -> u64 {
        // SAFETY: as above.
        let answer = self.answer.with(|place| unsafe { *place });
        self.word.free();
        answer
    }
}

/// A worker's one look at a slot; the request that it decided.
fn look(slot: &Slot) -> Option<u64> {
    slot.word.take(DATABASE).then(|| {
        let request = slot.decide();
        slot.word.finish(DATABASE);
        request
    })
}

#[test]
fn an_answer_belongs_to_its_request() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(|| {
        let (slot, bell) = (Arc::new(Slot::new()), Arc::new(Notify::new()));
        let worker = {
            let (slot, bell) = (Arc::clone(&slot), Arc::clone(&bell));
            thread::spawn(move || {
                let mut decided = 0;
                while decided < 2 {
                    match look(&slot) {
                        Some(_) => {
                            decided += 1;
                            bell.notify();
                        }
                        None => thread::yield_now(),
                    }
                }
            })
        };
        for request in [1, 2] {
            assert!(slot.word.claim(DATABASE));
            slot.ask(request);
            while !slot.word.is_done() {
                bell.wait();
            }
            assert_eq!(slot.answer(), request + 100);
        }
        worker.join().unwrap();
    });
}

#[test]
fn who_leaves_is_decided_all_the_same_and_the_slot_is_used_again() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let worker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                loop {
                    if let Some(request) = look(&slot) {
                        return request;
                    }
                    thread::yield_now();
                }
            })
        };
        assert!(slot.word.claim(DATABASE));
        slot.ask(1);
        if slot.word.leave() == Leaving::Done {
            assert_eq!(slot.answer(), 101);
        }
        assert_eq!(worker.join().unwrap(), 1);
        // Whoever was last has freed it.
        assert!(slot.word.claim(DATABASE));
    });
}

#[test]
fn what_is_withdrawn_is_never_decided() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let worker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || look(&slot))
        };
        assert!(slot.word.claim(DATABASE));
        slot.ask(1);
        let withdrawn = slot.word.withdraw(DATABASE);
        if withdrawn {
            slot.word.free();
        }
        let decided = worker.join().unwrap();
        assert!(!(withdrawn && decided.is_some()));
        if decided.is_some() {
            assert!(slot.word.is_done());
            assert_eq!(slot.answer(), 101);
        } else {
            assert!(withdrawn || !slot.word.is_done());
        }
    });
}

#[test]
fn a_worker_that_ends_in_the_middle_loses_nothing() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let worker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                // The first ends after it has taken, and may have decided; the next begins by giving back.
                if slot.word.take(DATABASE) {
                    slot.decide();
                    slot.word.give_back(DATABASE);
                }
                loop {
                    if look(&slot).is_some() {
                        return;
                    }
                    thread::yield_now();
                }
            })
        };
        assert!(slot.word.claim(DATABASE));
        slot.ask(1);
        let left = slot.word.leave();
        worker.join().unwrap();
        match left {
            Leaving::Done => assert_eq!(slot.answer(), 101),
            Leaving::Left => assert!(slot.word.claim(DATABASE)),
        }
    });
}

#[test]
fn two_callers_never_have_the_same_slot() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let callers: Vec<_> = [1, 2]
            .map(|request| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    let mine = slot.word.claim(DATABASE);
                    if mine {
                        slot.ask(request);
                        // Nobody takes it.
                        assert!(slot.word.withdraw(DATABASE));
                        // SAFETY: as above.
                        slot.request.with(|place| assert_eq!(unsafe { *place }, request));
                        slot.word.free();
                    }
                    mine
                })
            })
            .into_iter()
            .collect();
        let got: Vec<bool> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        assert!(got.contains(&true));
        assert!(slot.word.claim(DATABASE));
    });
}

#[test]
fn what_was_taken_from_a_worker_is_not_its_to_finish() {
    loom::model(|| {
        let word = Word::new();
        assert!(word.claim(DATABASE));
        word.publish(DATABASE);
        assert!(word.take(DATABASE));
        // Whoever follows it gives back what it had.
        word.give_back(DATABASE);
        assert!(!word.finish(DATABASE));
        assert!(word.waits(DATABASE) && !word.claim(DATABASE));
    });
}

#[test]
fn a_database_that_is_dropped_leaves_nothing() {
    loom::model(|| {
        let words = [Word::new(), Word::new(), Word::new()];
        for (word, database) in words.iter().zip([DATABASE, DATABASE, DATABASE + 1]) {
            assert!(word.claim(database));
            word.publish(database);
            assert_eq!(word.leave(), Leaving::Left);
        }
        assert!(words[1].take(DATABASE));
        assert_eq!(words.each_ref().map(|word| word.abandon(DATABASE)), [true, true, false]);
        assert_eq!(words.each_ref().map(|word| word.claim(DATABASE)), [true, true, false]);
    });
}

#[test]
fn a_worker_takes_only_what_its_database_asks() {
    loom::model(|| {
        let slot = Slot::new();
        assert!(slot.word.claim(DATABASE));
        assert!(!slot.word.take(DATABASE), "not published yet");
        slot.ask(1);
        assert!(!slot.word.take(DATABASE + 1));
        assert!(!slot.word.claim(DATABASE));
        assert!(slot.word.take(DATABASE));
        assert!(!slot.word.take(DATABASE) && !slot.word.withdraw(DATABASE));
    });
}
