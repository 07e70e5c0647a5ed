//! A superuser's count(*) under the seal.

use std::time::Instant;

use anyhow::{Result, ensure};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker, least};
use pg_test::{Client, Database};
use tokio_postgres::Statement;

use crate::tables::tenant;

pub async fn count_as_superuser(database: &Database, rows: u32, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.pick(24, 2);
    let settings = "-c max_parallel_workers_per_gather=0 -c enable_indexscan=off -c enable_indexonlyscan=off \
                    -c enable_bitmapscan=off";
    let id = tenant(0);
    let side = async |settings: String, query: String| -> Result<(Client, Statement)> {
        let mut config = database.config("postgres");
        config.options(&settings);
        let session = Client::connect(&config).await?;
        let statement = session.prepare(&query).await?;
        Ok((session, statement))
    };
    let connect = async || -> Result<[(Client, Statement); 2]> {
        Ok([
            side(format!("{settings} -c bulkhead.tenant_context={id}"), "SELECT count(*) FROM large".into()).await?,
            side(
                format!("{settings} -c bulkhead.bypass=benchmark"),
                format!("SELECT count(*) FROM large WHERE tenant_id = '{id}'"),
            )
            .await?,
        ])
    };
    let mut ticker = Ticker::new("a superuser's count of a sealed table", rounds);
    let mut measured = Rounds::<2>::default();
    let mut sides = connect().await?;
    let time = async |(session, statement): &(Client, Statement)| -> Result<(f64, i64)> {
        let start = Instant::now();
        let row = session.query_one(statement, &[]).await?;
        Ok((start.elapsed().as_secs_f64() * 1000.0, row.try_get(0)?))
    };
    while measured.count() < rounds {
        if measured.count() % 4 == 3 {
            sides = connect().await?;
        }
        let ((_, ours), (_, theirs)) = (time(&sides[0]).await?, time(&sides[1]).await?);
        ensure!(
            ours == theirs && ours > 0 && ours < i64::from(rows),
            "the sealed count is {ours}, the literal's {theirs}, of {rows} rows"
        );
        let times: [f64; 2] = least(2, async |which| Ok(time(&sides[which]).await?.0)).await?;
        times.into_iter().enumerate().for_each(|(arm, time)| measured.add(arm, time));
        measured.end_round();
        ticker.tick(measured.count());
    }
    report.lines.push(Line {
        what: format!("a superuser's count(*) of a sealed table of {} rows", grouped(f64::from(rows))),
        ours: Figure(measured.median(0), "ms"),
        rival: "a bypass and the tenant as a literal".into(),
        rival_figure: Figure(measured.median(1), "ms"),
        results: measured.ratios(0, 1),
        unit: Line::TIMES,
        target: Some(Target::AtMost(1.15)),
    });
    Ok(())
}
