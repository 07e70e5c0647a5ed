//! seal: what it costs to be filtered whatever the role, and what observe() costs.
//!
//! Point SELECTs of 8 clients in autocommit, prepared and as plain text, the tenant set once a session: on a sealed table, against
//! the same policy without the seal; on a table that is not protected, in a database where 50 others are, against sessions without
//! the library; and on an observed table without a tenant, against a table like it that is not observed. Then a superuser's count of a
//! sealed table, against the same with a bypass and the tenant as a literal.
//!
//! For the first two the library comes by `session_preload_libraries` of a role: its sessions are sealed. A role without it gets the
//! library from the first call of the policy's function, too late for the seal: that is plain row level security
//! with our policy. observe() and the superuser's count run on a server with shared preload.

mod count;
mod readers;
mod tables;

use std::process::ExitCode;

use anyhow::Result;
use pg_test::bench::chart::{Bars, Group};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::{self, Options, Report};
use pg_test::{Preload, progress};

const TENANTS: usize = 1000;
/// Key k belongs to tenant k % TENANTS.
const KEYS: usize = 100_000;
const CLIENTS: usize = 8;
const OTHERS: usize = 50;

fn main() -> ExitCode {
    bench::main("seal", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let sessions = server::start(Preload::None)?;
    let mut report = Report::new("seal", "what the seal and observe() cost", Conditions::of(&sessions, options));
    let mut groups = Vec::new();

    let database = sessions.database("seal")?;
    progress::stage("filled two tables, protected 51", || tables::fill_sealed(&database))?;
    tables::check_roles(&database).await?;
    for comparison in &readers::COMPARISONS[..2] {
        groups.push(comparison.run(&database, options, &mut report).await?);
    }
    drop(database);
    drop(sessions);

    let shared = server::start(Preload::Shared)?;
    let database = shared.database("observe")?;
    let rows = options.pick(1_000_000, 100_000);
    progress::stage("filled three tables", || tables::fill_observed(&database, rows))?;
    groups.push(readers::COMPARISONS[2].run(&database, options, &mut report).await?);
    tables::check_counted(&database)?;
    count::count_as_superuser(&database, rows, options, &mut report).await?;

    report.notes = vec![
        format!(
            "SELECT of one row by its primary key in autocommit, {CLIENTS} clients; the tenant is set once a session."
        ),
        format!("The unprotected table lies in a database with {} protected ones.", OTHERS + 1),
        "All statements on the observed table are naked; the rival is a table like it beside it.".into(),
    ];
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    let chart = directory.join("seal.svg");
    bars(groups).write(&chart)?;
    report.publish_chart(&chart)?;
    Ok(())
}

fn bars(groups: Vec<Group>) -> Bars {
    let lowest = groups.iter().flat_map(|group| &group.bars).flat_map(|bar| &bar.rounds).copied();
    let lowest = lowest.fold(0.95, f64::min);
    Bars {
        title: format!("Point SELECTs a second of {CLIENTS} clients: ours by the rival's"),
        subtitle: "each dot is one round, the band the median's interval (more is better)".into(),
        axis: "our transactions a second, as a multiple of the rival's".into(),
        // A little below the lowest dot, on a round number.
        from: (lowest * 20.0).floor() / 20.0,
        groups,
    }
}
