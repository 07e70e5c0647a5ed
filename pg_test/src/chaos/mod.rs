//! A mixed load of all rooms on a server that is killed again and again; after each kill every promise is checked.
//!
//! | promise | kept in |
//! |---|---|
//! | what was acknowledged is there, and as it was told | [`ledger`], asked for by [`checks`] |
//! | nothing is applied twice: stock that is left and stock that is sold make what there was; a request's work is done once | [`checks`] |
//! | no key is claimed by two | [`ledger`], when the second one is told so |
//! | no reader sees a row of another tenant | [`rows`], with each row that is read |
//!
//! The clients know nothing of the kills: they connect again, and what they had no answer to they ask again, or leave as it may be.

pub mod checks;
pub mod ground;
mod keys;
mod kills;
pub mod ledger;
mod orders;
mod rows;
mod session;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::RwLock;

use crate::pooler::Pooler;
use crate::{Database, progress};
use ledger::Ledger;
use session::{Place, Session};

pub const TENANTS: [&str; 3] = ["ada", "bob", "cid"];

#[derive(Debug, Clone)]
pub struct Options {
    pub kills: u32,
    pub seed: u64,
    /// Write down as acknowledged what was only asked for: the checks have to find out.
    pub too_early: bool,
}

pub struct Outcome {
    pub kills: BTreeMap<&'static str, u32>,
    pub ledger: Arc<Ledger>,
    /// Still running, for whoever wants to look into it, or to damage it.
    pub db: Database,
    world: World,
}

impl Outcome {
    /// Every reader reads once more.
    pub async fn read_again(&self) {
        rows::look_again(&self.world).await;
    }

    /// A request that came before comes to one session more.
    pub async fn request_again(&self, tenant: &'static str, key: &str, by: &str) {
        keys::again(&self.world, tenant, key, by).await;
    }
}

/// What all who take part know.
#[derive(Clone)]
pub(crate) struct World {
    pub db: Database,
    pub ledger: Arc<Ledger>,
    pub pooler: Option<Arc<Pooler>>,
    /// A signed token for each tenant.
    pub tokens: Arc<BTreeMap<&'static str, String>>,
    /// Held for reading during a piece of work, for writing by the checks.
    pub gate: Arc<RwLock<()>>,
}

impl World {
    fn session(&self, place: Place) -> Session {
        Session::new(self.clone(), place)
    }
}

/// Numbers by chance that come again with the same seed (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// Starts a server, lets the load run under that many kills, and checks after each and at the end. What is wrong is in the ledger's faults.
pub async fn run(options: &Options) -> Result<Outcome> {
    let cluster = progress::stage("started a server to kill", ground::start)?;
    let world = ground::prepare(&cluster, options).await?;
    let mut sessions = tokio::task::JoinSet::new();
    orders::start(&world, &mut sessions);
    keys::start(&world, &mut sessions);
    rows::start(&world, &mut sessions);
    upkeep::start(&world, &mut sessions);

    let mut random = Random::new(options.seed);
    let mut kills = BTreeMap::new();
    for number in 1..=options.kills {
        tokio::time::sleep(Duration::from_millis(200 + random.below(600))).await;
        // The first ones are one of each kind.
        let kind = kills::ALL[if number <= kills::ALL.len() as u32 {
            number as usize - 1
        } else {
            random.below(kills::ALL.len() as u64) as usize
        }];
        if kills::kill(kind, &cluster, &mut random).await? {
            *kills.entry(kind.name()).or_insert(0) += 1;
        }
        kills::wait_until_there(&world.db).await?;
        let _closed = world.gate.write().await;
        let start = Instant::now();
        checks::all(&world.db, &world.ledger).await?;
        if number % 10 == 0 {
            let took = start.elapsed().as_secs_f64();
            progress::say(format!("{number} kills, all of it looked at in {took:.1} s; {}", world.ledger.summary()));
        }
    }
    {
        let _closed = world.gate.write().await;
        sessions.abort_all();
        checks::at_the_end(&world.db, &world.ledger).await?;
    }
    Ok(Outcome { kills, ledger: world.ledger.clone(), db: world.db.clone(), world })
}
