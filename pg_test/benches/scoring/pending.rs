//! score_pending() beside a bare UPDATE of the same rows in the same batches.

use std::time::Instant;

use anyhow::{Result, ensure};
use pg_test::Database;
use pg_test::bench::report::Figure;
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker};

const OURS: usize = 0;
const BARE: usize = 1;

pub async fn measure(database: &Database, options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.pick(50_000, 2_000);
    let rounds = options.pick(5, 1);
    database.admin(
        "SET ROLE owner;
         CREATE TABLE waiting (id bigint PRIMARY KEY, tenant_id text NOT NULL, document jsonb, score numeric, status text NOT NULL) WITH (fillfactor = 50);
         CREATE INDEX ON waiting (tenant_id) WHERE status = 'pending_score';
         SELECT bulkhead.attach_scoring('waiting', 'fifty');
         CREATE PROCEDURE bare(tenant text) LANGUAGE plpgsql AS $$
         DECLARE changed bigint;
         BEGIN LOOP
             WITH picked AS MATERIALIZED (SELECT ctid AS place FROM waiting WHERE tenant_id = tenant AND status = 'pending_score' LIMIT 1000 FOR UPDATE SKIP LOCKED)
             UPDATE waiting w SET score = 1, status = 'scored' FROM picked p WHERE w.ctid = p.place;
             GET DIAGNOSTICS changed = ROW_COUNT;
             COMMIT;
             EXIT WHEN changed = 0;
           END LOOP; END $$",
    )?;
    database.admin(
        "SELECT * FROM bulkhead.protect('waiting'); GRANT EXECUTE ON PROCEDURE bulkhead.score_pending TO owner",
    )?;
    let session = database.connect("owner").await;
    let mut measured: Rounds<2> = Rounds::default();
    let mut ticker = Ticker::new("score_pending", rounds);
    for round in 0..rounds {
        for arm in bench::there_and_back(2) {
            session.run("SET bulkhead.tenant_context = 'a'").await;
            session.run(&format!("DELETE FROM waiting; INSERT INTO waiting SELECT id, 'a', document, NULL, 'pending_score' FROM leads LIMIT {rows}")).await;
            database.admin("VACUUM ANALYZE waiting; CHECKPOINT")?;
            let call = if arm == OURS { "CALL bulkhead.score_pending('waiting')" } else { "CALL bare('a')" };
            let start = Instant::now();
            session.run(call).await;
            measured.add(arm, f64::from(rows) / start.elapsed().as_secs_f64());
            let left = session.one("SELECT count(*) FROM waiting WHERE status <> 'scored'").await;
            ensure!(left == "0", "{left} rows were not scored by {call}");
        }
        measured.end_round();
        ticker.tick(round + 1);
    }
    report.lines.push(Line {
        what: "score_pending(), 50 rules, batches of 1,000".into(),
        ours: Figure(measured.median(OURS), "rows/s"),
        rival: "a bare UPDATE of score and status".into(),
        rival_figure: Figure(measured.median(BARE), "rows/s"),
        results: measured.ratios(OURS, BARE),
        unit: Line::TIMES,
        target: Some(Target::AtLeast(0.8)),
    });
    Ok(())
}
