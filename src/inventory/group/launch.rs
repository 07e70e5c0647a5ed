//! The launcher: a process without a database that starts the workers of those that need one.
//!
//! It sleeps until somebody asks, a worker ends, or the settings are read again.

use std::sync::atomic::Ordering;

use super::round::is_anybody_waiting;
use crate::pg::group::memory::{self, Desk};
use crate::pg::group::processes::{self, Hired, Whereabouts};
use crate::pg::group::{self, sleep, until};
use crate::pg::settings;

/// A worker that ended right after its start is followed by the next after so many microseconds; where it never began, then after twice as many, up to the last.
const FIRST_PAUSE: i64 = 20_000;
const LAST_PAUSE: i64 = 30_000_000;

/// A worker that has lived so long did not end right after its start.
const LIFE: i64 = 1_000_000;

/// What the launcher knows of a desk.
#[derive(Default)]
struct Post {
    hired: Option<Hired>,
    /// A worker is there that a former launcher sent for.
    is_anothers: bool,
    started: i64,
    pause: i64,
    /// Not before.
    at: i64,
    /// The setting names the database.
    is_listed: bool,
}

impl Post {
    fn has_worker(&self) -> bool {
        self.hired.is_some() || self.is_anothers
    }

    /// Whoever was there has ended, or never came.
    fn is_left(&self, desk: &Desk) -> bool {
        match &self.hired {
            Some(hired) => hired.whereabouts() == Whereabouts::Gone,
            None => self.is_anothers && desk.has_nobody(),
        }
    }

    /// Somebody is there whom this launcher did not send for: its end is told by a wake-up.
    fn find_another(&mut self) {
        (self.is_anothers, self.started) = (true, group::now());
    }
}

/// The launcher's whole life.
pub fn launch() {
    let mut posts: Vec<Post> = Vec::new();
    posts.resize_with(memory::all_desks().count(), Post::default);
    memory::be_launcher(true);
    for (number, desk) in memory::all_desks() {
        // Whom a former launcher sent for may come yet: a desk takes the first.
        desk.call_off();
        if desk.has_worker() {
            posts[number].find_another();
        }
    }
    let mut is_new = true;
    loop {
        let is_changed = memory::is_to_look_again();
        let is_reloaded = processes::catch_up() || std::mem::take(&mut is_new);
        if is_reloaded || is_changed {
            read_settings(&mut posts);
        }
        if is_reloaded {
            // Requests that outlived a launcher; or where no worker was to be had, and the setting wants none now: one is sent to tell them. A worker that is there sees to them.
            memory::all_desks()
                .filter(|(number, _)| !posts[*number].has_worker())
                .for_each(|(_, desk)| note_waiting(desk));
        }
        let mut next: Option<i64> = None;
        for (number, desk) in memory::all_desks() {
            look_after(number, desk, &mut posts);
            let post = &posts[number];
            if is_open(desk, post) && desk.wanted.load(Ordering::SeqCst) {
                next = Some(next.map_or(post.at, |next| next.min(post.at)));
            }
        }
        sleep(next.map_or(-1, |at| until(at).max(1)));
    }
}

/// Whether somebody may be sent for.
fn is_open(desk: &Desk, post: &Post) -> bool {
    !post.has_worker() && desk.held.load(Ordering::SeqCst) == 0 && !desk.is_nobodys()
}

fn note_waiting(desk: &Desk) {
    let database = desk.database.load(Ordering::SeqCst);
    if database != 0 && (desk.is_rung() || is_anybody_waiting(database)) {
        desk.wanted.store(true, Ordering::SeqCst);
    }
}

/// Databases that are named have a worker from now on.
fn read_settings(posts: &mut [Post]) {
    posts.iter_mut().for_each(|post| post.is_listed = false);
    for name in settings::drain_databases().iter().filter(|name| *name != "*") {
        if let Some(number) = memory::assign(0, name)
            && let Some(desk) = memory::desk(number)
        {
            posts[number].is_listed = true;
            (posts[number].at, posts[number].pause) = (0, 0);
            desk.wanted.store(true, Ordering::SeqCst);
        }
    }
}

fn look_after(number: usize, desk: &Desk, posts: &mut [Post]) {
    let post = &mut posts[number];
    if desk.is_new.swap(false, Ordering::SeqCst) {
        // Its database may have been made just now, and be the one of a name that was asked for before.
        (post.at, post.pause) = (0, 0);
    }
    if post.is_left(desk) {
        (post.hired, post.is_anothers) = (None, false);
        // One that never came.
        desk.call_off();
        if desk.has_worker() {
            post.find_another();
            return;
        }
        let is_in_vain = desk.end_in_vain.swap(false, Ordering::SeqCst);
        let is_short = group::now() - post.started < LIFE;
        // One that was there and is gone was ended by somebody; one that never came will not come the next time either.
        let has_begun = desk.has_begun.swap(false, Ordering::SeqCst);
        let was_sent_away = desk.was_sent_away.swap(false, Ordering::SeqCst);
        post.pause = match (is_short && !was_sent_away, has_begun) {
            (false, _) => 0,
            (true, true) => FIRST_PAUSE,
            (true, false) => (post.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE),
        };
        post.at = group::now() + post.pause;
        if !is_in_vain {
            note_waiting(desk);
            if post.is_listed {
                desk.wanted.store(true, Ordering::SeqCst);
            }
        }
    }
    if !is_open(desk, post) || post.at > group::now() || !desk.wanted.swap(false, Ordering::SeqCst) {
        return;
    }
    if !desk.send_for() {
        // It looks at everything when it begins to work, and when it ends.
        post.find_another();
        return;
    }
    // Whoever holds the desk from now on sees that somebody is on the way; who did before is seen here.
    if desk.held.load(Ordering::SeqCst) != 0 {
        desk.call_off();
        desk.wanted.store(true, Ordering::SeqCst);
        return;
    }
    post.started = group::now();
    post.hired = processes::hire(number, &desk.name(), post.is_listed);
    if post.hired.is_none() {
        desk.call_off();
        desk.wanted.store(true, Ordering::SeqCst);
        post.pause = (post.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        post.at = group::now() + post.pause;
        make_room(posts);
    }
}

/// No process was to be had: the worker that has been there for the longest and is not named by the setting gives way. If it is needed, it is asked for again.
fn make_room(posts: &[Post]) {
    let now = group::now();
    let others = posts.iter().enumerate().filter(|(_, post)| post.has_worker() && !post.is_listed);
    if let Some((number, _)) = others.filter(|(_, post)| now - post.started > LIFE).min_by_key(|(_, post)| post.started)
        && let Some(desk) = memory::desk(number)
    {
        desk.leave.store(true, Ordering::SeqCst);
        desk.wake();
    }
}
