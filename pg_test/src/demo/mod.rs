//! `cargo run`: a story in scenes, on a real server, in which every claim is checked before it is printed.
//!
//! | file | what it is for |
//! |---|---|
//! | `story` | the narrator: prose, SQL, results, and the checks |
//! | `session`, `progress`, `paint` | a connection; what moves while one waits; colours and widths |
//! | `products`, `data/*.sql` | the three products and their rows |
//! | `crowd` | many connections at once, and a count of what they saw of others |
//! | `leak`, `protect`, `storm`, `forgery`, `retry`, `sale`, `at_once`, `score`, `cost` | the scenes |
//!
//! A new scene is a file with `pub async fn play(tour: &mut Tour) -> Result<()>` and a line in [`scenes`].

mod at_once;
mod cost;
mod crowd;
mod forgery;
mod leak;
mod paint;
mod products;
mod progress;
mod protect;
mod retry;
mod sale;
mod score;
mod session;
mod storm;
mod story;

use anyhow::{Context, Result};
use pg_test::{Cluster, Database};

use products::Products;
use session::Session;
use story::Story;

/// What every scene finds on the stage.
struct Tour {
    story: Story,
    database: Database,
    products: Products,
    /// The role that owns the tables, and the one that the application logs in as. Neither is a superuser.
    owner: Session,
    app: Session,
}

/// Plays the whole story on a running server.
pub fn play(cluster: &Cluster) -> Result<()> {
    let database = cluster.database("demo")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("starting the async runtime")?.block_on(scenes(database))
}

async fn scenes(database: Database) -> Result<()> {
    let mut tour = opening(database).await?;
    leak::play(&mut tour).await?;
    protect::play(&mut tour).await?;
    storm::play(&mut tour).await?;
    forgery::play(&mut tour).await?;
    retry::play(&mut tour).await?;
    sale::play(&mut tour).await?;
    at_once::play(&mut tour).await?;
    score::play(&mut tour).await?;
    cost::play(&mut tour).await?;
    tour.story.end(pg_test::flag("KEEP"));
    Ok(())
}

async fn opening(database: Database) -> Result<Tour> {
    let mut story = Story::begin();
    let owner = Session::open(&database, "owner").await?;
    let app = Session::open(&database, "app").await?;
    let version = app.value("SHOW server_version_num").await?;
    let (major, minor) = version.split_at(version.len().saturating_sub(4));
    let minor: u32 = minor.parse().with_context(|| format!("the server's version is {version:?}"))?;

    story.title("Bulkhead", "many tenants in one database, each behind a wall of its own.");
    story.say(&format!(
        "This is a real PostgreSQL {major}.{minor}, made for this tour and deleted after it. Every statement is really run, \
         and every ✓ was really checked. `owner` owns the tables, `app` is what the applications log in as; neither is a \
         superuser. Three products live here:"
    ));
    let products = products::load(&mut story, &owner).await?;
    Ok(Tour { story, database, products, owner, app })
}
