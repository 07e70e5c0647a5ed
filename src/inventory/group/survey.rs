//! What shared memory says of slots, launcher and workers, for whoever watches.

use std::sync::atomic::Ordering;

use super::is_wanted_here;
use super::round::is_anybody_waiting;
use crate::pg::group::{self, memory};
use crate::pg::{security, settings};

/// Slots of the whole server.
pub struct Slots {
    pub all: usize,
    pub used: usize,
    /// Of these, by orders that nobody waits for any more.
    pub left: usize,
}

/// None without shared memory.
pub fn slots() -> Option<Slots> {
    memory::is_there().then(|| {
        let mut slots = Slots { all: 0, used: 0, left: 0 };
        for slot in memory::all_slots() {
            slots.all += 1;
            slots.used += usize::from(!slot.word().is_free());
            slots.left += usize::from(slot.word().is_left());
        }
        slots
    })
}

/// Whether orders that nobody waits for take so many slots that new ones are refused.
pub fn is_littered() -> bool {
    memory::is_there() && memory::is_littered()
}

/// Whether the process is there that starts workers.
pub fn has_launcher() -> bool {
    memory::has_launcher()
}

/// Workers of the whole server.
pub fn workers() -> usize {
    memory::all_desks().filter(|(_, desk)| desk.is_at_work()).count()
}

/// The worker of this database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Here {
    AtWork,
    /// None, and none is needed now.
    Away,
    /// None, though somebody waits for one, or the setting wants one all the time.
    Missing,
    /// None, because the setting wants none.
    Unwanted,
}

pub fn here() -> Here {
    if !is_wanted_here() {
        return Here::Unwanted;
    }
    let database = security::database();
    let desk = memory::my_desk_if_any().and_then(memory::desk);
    if desk.is_some_and(|desk| desk.is_at_work()) {
        return Here::AtWork;
    }
    let name = memory::database_name(database);
    let is_listed = settings::drain_databases().contains(&name);
    // One that came before the extension was created was there in vain, and comes again when somebody asks.
    let had_nothing = found_nothing_in(&name);
    let is_asked_for = desk.is_some_and(|desk| desk.wanted.load(Ordering::SeqCst) || desk.is_rung());
    match is_asked_for || is_anybody_waiting(database) || is_listed && !had_nothing {
        true => Here::Missing,
        false => Here::Away,
    }
}

/// The same, and looks again for a second before it says that one is missing: it may be on its way.
pub fn here_at_last() -> Here {
    const LOOKS: usize = 50;
    for _ in 0..LOOKS {
        match here() {
            Here::Missing => group::sleep(20),
            other => return other,
        }
    }
    here()
}

/// Whether a launcher is there within the second in which the server starts another.
pub fn has_launcher_at_last() -> bool {
    const LOOKS: usize = 75;
    (0..LOOKS).any(|_| {
        let is_there = has_launcher();
        if !is_there {
            group::sleep(20);
        }
        is_there
    })
}

/// Whether the last worker of the database of this name found no extension there.
pub fn found_nothing_in(name: &str) -> bool {
    memory::all_desks().any(|(_, desk)| desk.has_nothing.load(Ordering::SeqCst) && desk.name() == name)
}
