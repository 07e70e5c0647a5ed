//! Runs `async fn name(db: Database)` as a test with a database and a runtime of its own.
//!
//! A test passes when it returns. It fails when it panics or takes longer than its limit; then the
//! end of the server's log about its database is shown. A test that lacks something the machine does
//! not have returns a [`Skip`]; where `CI` is set that is a failure too. What no package brings is [`Absent`], which is none.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pg_test::provision::{self, For};
use pg_test::{Database, cluster, progress};

use crate::smoke;

/// How long a test may take that does not say otherwise.
pub const LIMIT: Duration = Duration::from_secs(120);

const LOG_LINES: usize = 30;
const LOG_COLUMNS: usize = 300;

/// `tests![one, two => 300]`: the listed functions as tests of this module; a number is a limit in
/// seconds, and what has a longer one begins earlier. A function that is left off the list is dead code, which clippy refuses.
#[macro_export]
macro_rules! tests {
    ($($name:ident $(=> $seconds:literal)?),* $(,)?) => {
        vec![$({
            #[allow(unused_mut, unused_assignments)]
            let mut limit = $crate::harness::LIMIT;
            $(limit = ::std::time::Duration::from_secs($seconds);)?
            $crate::harness::trial(module_path!(), stringify!($name), limit, $name)
        }),*]
    };
}

/// Why a test could not be run here.
#[derive(Debug)]
pub struct Skip(pub String);

/// The same for want of something that no package brings: CI accepts that, and says so.
#[derive(Debug)]
pub struct Absent(pub String);

/// A test that was not run, and why.
pub enum Missed {
    Skipped(String),
    Absent(String),
}

/// What a test may return.
pub trait Outcome {
    fn missed(self) -> Option<Missed>;
}

impl Outcome for () {
    fn missed(self) -> Option<Missed> {
        None
    }
}

impl Outcome for Result<(), Skip> {
    fn missed(self) -> Option<Missed> {
        self.err().map(|Skip(why)| Missed::Skipped(why))
    }
}

impl Outcome for Result<(), Absent> {
    fn missed(self) -> Option<Missed> {
        self.err().map(|Absent(why)| Missed::Absent(why))
    }
}

/// What a test may ask for; its argument's type chooses the server.
pub trait Place: Sized + Send + 'static {
    fn make(label: &str) -> anyhow::Result<Self>;
    /// Its database, where it has one.
    fn database(&self) -> Option<Database>;
}

impl Place for Database {
    fn make(label: &str) -> anyhow::Result<Self> {
        cluster::shared()?.database(label)
    }

    fn database(&self) -> Option<Database> {
        Some(self.clone())
    }
}

/// A test that wants no database of its own.
pub struct Nowhere;

impl Place for Nowhere {
    fn make(_: &str) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn database(&self) -> Option<Database> {
        None
    }
}

macro_rules! place {
    ($(#[$doc:meta])* $name:ident, $cluster:path) => {
        $(#[$doc])*
        pub struct $name(pub Database);

        impl Place for $name {
            fn make(label: &str) -> anyhow::Result<Self> {
                Ok(Self($cluster()?.database(label)?))
            }

            fn database(&self) -> Option<Database> {
                Some(self.0.clone())
            }
        }

        impl Deref for $name {
            type Target = Database;

            fn deref(&self) -> &Database {
                &self.0
            }
        }
    };
}

place!(
    /// A database of the server whose sessions load the library.
    SessionPreload,
    cluster::session_preload
);
place!(
    /// A database of the server that preloads nothing.
    WithoutPreload,
    cluster::without_preload
);

place!(
    /// A database of the server that has workers.
    WithWorkers,
    cluster::with_workers
);

/// One test; called by [`tests!`].
pub fn trial<P, F, R>(module: &str, name: &str, limit: Duration, body: fn(P) -> F) -> Trial
where
    P: Place,
    F: Future<Output = R> + 'static,
    R: Outcome + 'static,
{
    let feature = module.split_once("::").map_or(module, |(_, feature)| feature);
    let full = format!("{feature}::{name}");
    LIMITS.lock().unwrap_or_else(PoisonError::into_inner).insert(full.clone(), limit);
    let label = full.clone();
    Trial::ignorable_test(full, move || timed(&label, || execute(&label, limit, body)))
}

/// The same for a test that is made at run time.
pub fn trial_named<P, F, R>(name: String, body: impl FnOnce(P) -> F + Send + 'static) -> Trial
where
    P: Place,
    F: Future<Output = R> + 'static,
    R: Outcome + 'static,
{
    let label = name.clone();
    Trial::ignorable_test(name, move || timed(&label, || execute(&label, LIMIT, body)))
}

/// The limits of tests, by name.
static LIMITS: Mutex<BTreeMap<String, Duration>> = Mutex::new(BTreeMap::new());

/// What may take longest begins first: begun last, it would run on alone.
fn longest_first(trials: &mut [Trial]) {
    let limits = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
    trials.sort_by_key(|trial| Reverse(limits.get(trial.name()).copied()));
}

/// What each test took, for the list of the slowest.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

fn timed<R>(label: &str, test: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = test();
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), label.to_owned()));
    result
}

/// What a run that takes long is made of.
fn slowest() -> String {
    let mut times = std::mem::take(&mut *TIMES.lock().unwrap_or_else(PoisonError::into_inner));
    times.sort();
    let of = |(time, label): &(Duration, String)| format!("{label} {:.0} s", time.as_secs_f64());
    times.iter().rev().take(12).map(of).collect::<Vec<_>>().join(", ")
}

/// Runs the tests as cargo's command line asks, and ends the servers whatever happened.
pub fn run(mut arguments: Arguments, mut trials: Vec<Trial>) -> ExitCode {
    longest_first(&mut trials);
    // They wait for the server more than they compute.
    arguments.test_threads.get_or_insert(4);
    std::panic::set_hook(Box::new(|info| {
        LAST_PANIC.with_borrow_mut(|text| *text = info.to_string());
    }));
    let list_only = arguments.list;
    let mut wanted = trials.iter().filter(|trial| is_wanted(&arguments, trial)).peekable();
    if !list_only && wanted.peek().is_some() {
        let purpose = if wanted.all(|trial| trial.name().starts_with(smoke::NAME)) { For::Demo } else { For::Tests };
        // Once and before all tests: its failure would otherwise be repeated by each of them.
        if let Err(error) = provision::provision(purpose) {
            progress::say(format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    }
    let start = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !list_only {
        progress::say(format!("ran the suite ({:.1} s); the slowest: {}", start.elapsed().as_secs_f64(), slowest()));
    }
    cluster::end_all();
    conclusion.exit_code()
}

fn is_wanted(arguments: &Arguments, trial: &Trial) -> bool {
    let fits = |pattern: &String| match arguments.exact {
        true => trial.name() == pattern,
        false => trial.name().contains(pattern.as_str()),
    };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a test's body as [`trial`] does; public for the tests of this frame.
pub fn execute<P, F, R>(
    label: &str,
    limit: Duration,
    body: impl FnOnce(P) -> F + Send + 'static,
) -> Result<Completion, Failed>
where
    P: Place,
    F: Future<Output = R> + 'static,
    R: Outcome + 'static,
{
    let place = P::make(label).map_err(|error| Failed::from(format!("{error:#}")))?;
    let database = place.database();
    // On a thread of its own, so that a test that hangs without awaiting is noticed as well.
    let (sender, result) = channel();
    std::thread::spawn(move || {
        sender.send(block_on(place, body)).ok();
    });
    let result = match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(format!("not done after {} s, the limit of this test", limit.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("the test's thread ended".to_string()),
    };
    match result {
        Ok(missed) => {
            if let Some(database) = database {
                database.drop().map_err(|error| Failed::from(format!("{error:#}")))?;
            }
            match missed {
                None => Ok(Completion::Completed),
                Some(Missed::Skipped(why)) if pg_test::flag("CI") => {
                    Err(format!("skipped, which CI does not accept: {why}").into())
                }
                Some(Missed::Skipped(why)) => Ok(Completion::ignored_with(why)),
                Some(Missed::Absent(why)) => {
                    progress::say(format!("{label} skipped: {why}"));
                    Ok(Completion::ignored_with(why))
                }
            }
        }
        Err(message) => Err(with_log(message, database).into()),
    }
}

fn block_on<P, F, R>(place: P, body: impl FnOnce(P) -> F) -> Result<Option<Missed>, String>
where
    F: Future<Output = R>,
    R: Outcome,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let run = AssertUnwindSafe(|| runtime.block_on(body(place)).missed());
    let result = std::panic::catch_unwind(run);
    // A task that still waits for the server must not keep the test from ending.
    runtime.shutdown_background();
    result.map_err(|_| LAST_PANIC.take())
}

fn with_log(message: String, database: Option<Database>) -> String {
    let Some(database) = database else {
        return message;
    };
    let log = database.log();
    let lines: Vec<String> = log.lines().map(|line| line.chars().take(LOG_COLUMNS).collect()).collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    // The message comes last: where output is cut, its end is kept.
    format!("the server's log about {}\n{tail}\n--- {message}", database.name)
}
