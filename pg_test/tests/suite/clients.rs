//! docs/examples/clients, run: each library against the server itself, and through a pgbouncer in transaction mode.
//!
//! A program in drivers/ imports an example as it is and does with it what it is told, line by line; so one scenario asks
//! all of them the same. sqlx's example is compiled into this binary.

mod ask;
mod page;
mod postgrest;
mod program;
mod scenario;
mod sqlx;

use libtest_mimic::Trial;
use pg_test::pooler::Pooler;
use pg_test::provision::{Clients, Node};
use pg_test::{Database, root};

use crate::harness::{Skip, WithWorkers};
use crate::pooled::pooler;
use program::Program;

pub fn tests() -> Vec<Trial> {
    let mut trials = crate::tests![
        psycopg,
        psycopg_through_pgbouncer,
        sqlalchemy,
        sqlalchemy_through_pgbouncer,
        node_postgres,
        node_postgres_through_pgbouncer,
        prisma,
        prisma_through_pgbouncer,
        sqlx_directly,
        sqlx_through_pgbouncer,
    ];
    trials.extend(page::tests());
    trials.extend(postgrest::tests());
    trials
}

/// Fewer than the connections of any example's pool.
const SERVER_CONNECTIONS: u32 = 2;

/// What was installed for the examples.
pub fn installed(db: &Database) -> Result<Clients, Skip> {
    db.cluster.provision().clients.clone().ok_or_else(|| Skip("client libraries are not installed".into()))
}

pub fn python(db: &Database) -> Result<std::path::PathBuf, Skip> {
    installed(db)?.python.map_err(Skip)
}

pub fn node(db: &Database) -> Result<Node, Skip> {
    installed(db)?.node.map_err(Skip)
}

/// The socket's directory, and the port: the server's, or the pooler's.
fn address(db: &Database, pooler: Option<&Pooler>) -> (String, String) {
    match pooler {
        None => (db.cluster.socket_dir().display().to_string(), db.cluster.port().to_string()),
        Some(pooler) => pooler.address(),
    }
}

fn python_program(db: &Database, example: &str, pooler: Option<&Pooler>) -> Result<Program, Skip> {
    let (host, port) = address(db, pooler);
    let url = match example {
        "psycopg" => format!("host={host} port={port} user=app dbname={}", db.name),
        _ => format!("postgresql+asyncpg://app@/{}?host={host}&port={port}", db.name),
    };
    let mut command = std::process::Command::new(python(db)?);
    command.args(["-I", "-B"]).arg(root().join(format!("pg_test/tests/suite/clients/drivers/{example}.py")));
    command.arg(root().join("docs/examples/clients").join(example)).env("DATABASE_URL", url);
    Ok(Program::start(command))
}

fn node_program(db: &Database, example: &str, pooler: Option<&Pooler>) -> Result<Program, Skip> {
    let (host, port) = address(db, pooler);
    let node = node(db)?;
    let mut command = std::process::Command::new(&node.program);
    command.arg(root().join("pg_test/tests/suite/clients/drivers/node.mjs"));
    command.arg(node.dir.join(example).join("orders.mjs"));
    command.env("DATABASE_URL", format!("postgresql://app@localhost/{}?host={host}&port={port}", db.name));
    Ok(Program::start(command))
}

async fn psycopg(db: WithWorkers) -> Result<(), Skip> {
    scenario::play(&db, &python_program(&db, "psycopg", None)?).await;
    Ok(())
}

async fn psycopg_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, SERVER_CONNECTIONS)?;
    scenario::play(&db, &python_program(&db, "psycopg", Some(&pooler))?).await;
    Ok(())
}

async fn sqlalchemy(db: WithWorkers) -> Result<(), Skip> {
    scenario::play(&db, &python_program(&db, "sqlalchemy", None)?).await;
    Ok(())
}

async fn sqlalchemy_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, SERVER_CONNECTIONS)?;
    scenario::play(&db, &python_program(&db, "sqlalchemy", Some(&pooler))?).await;
    Ok(())
}

async fn node_postgres(db: WithWorkers) -> Result<(), Skip> {
    scenario::play(&db, &node_program(&db, "node-postgres", None)?).await;
    Ok(())
}

async fn node_postgres_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, SERVER_CONNECTIONS)?;
    scenario::play(&db, &node_program(&db, "node-postgres", Some(&pooler))?).await;
    Ok(())
}

async fn prisma(db: WithWorkers) -> Result<(), Skip> {
    scenario::play(&db, &node_program(&db, "prisma", None)?).await;
    Ok(())
}

async fn prisma_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, SERVER_CONNECTIONS)?;
    scenario::play(&db, &node_program(&db, "prisma", Some(&pooler))?).await;
    Ok(())
}

async fn sqlx_directly(db: WithWorkers) {
    scenario::play(&db, &sqlx::Shop::new(&db, address(&db, None))).await;
}

async fn sqlx_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, SERVER_CONNECTIONS)?;
    scenario::play(&db, &sqlx::Shop::new(&db, address(&db, Some(&pooler)))).await;
    Ok(())
}
