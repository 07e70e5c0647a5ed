//! scoring: what a score costs a row.
//!
//! Fifty rules over leads of about 430 bytes, by `SELECT count(score) FROM leads`: ours; the same rules as jsonpath in a table, set-based; a PL/pgSQL loop
//! over that table; one hand-written sum of CASE over `->>`; and datalogic-rs, which gets the documents as text, as an engine outside of the jsonb does: the
//! server prints them, it parses and evaluates. All give the same scores, which is checked. Then 500 rules; a document of 20 kB; and score_pending() beside
//! a bare UPDATE of the same rows in the same batches.
//!
//! Times are those above the bare scan of the document, in microseconds a row.

mod pending;
mod rules;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use pg_test::bench::chart::{Bar, Bars, Group};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker};
use pg_test::{Client, Database, Preload, progress};

/// Ways to score, each by an expression over the document.
const BARE: usize = 0;
const OURS: usize = 1;
const MANY: usize = 2;
const LARGE_BARE: usize = 3;
const LARGE: usize = 4;
const CASE: usize = 5;
const PATHS: usize = 6;
const LOOP: usize = 7;
const TEXT: usize = 8;
const ARMS: usize = 9;

const RIVALS: [(usize, &str, f64); 4] = [
    (CASE, "hand-written CASE over ->>", 3.0),
    (PATHS, "jsonpath in a table, set-based", 6.0),
    (LOOP, "PL/pgSQL loop over jsonpath", 10.0),
    (TEXT, "datalogic-rs through text", 1.0),
];

fn main() -> ExitCode {
    bench::main("scoring", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let rows = options.pick(200_000, 5_000);
    let rounds = options.pick(8, 2);
    let cluster = server::start(Preload::Shared)?;
    let conditions = Conditions::of(&cluster, options);
    let database = cluster.database("scoring")?;
    let title = format!("filled a table of {} leads", grouped(f64::from(rows)));
    progress::stage(&title, || fill(&database, rows))?;
    let mut report = Report::new("scoring", "what a score costs a row", conditions);
    report.notes = vec![
        format!("{} leads in memory; medians of {rounds} rounds; rivals over every tenth lead. Without parallel workers and JIT.", grouped(f64::from(rows))),
        "Times are above the bare scan of the document (count(document)). A result is how many times as long the rival takes.".into(),
        "datalogic-rs: document::text in the server, then parsing and 50 compiled rules in the benchmark's process; no round trips counted.".into(),
    ];
    let measured = evaluation(&database, rows, rounds).await?;
    lines(&measured, &mut report);
    pending::measure(&database, options, &mut report).await?;
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    let chart = directory.join("scoring.svg");
    let bar = |name: &str, arm: usize, ours: bool| {
        let (rounds, median) = (measured.ratios(arm, OURS), measured.median(arm));
        let times = measured.ratio(arm, OURS).median;
        Bar { name: name.to_owned(), ours, rounds, median: times, label: format!("{times:.1} × ({median:.1} µs)") }
    };
    let mut bars = vec![bar("ours, 50 rules", OURS, true), bar("ours, 500 rules", MANY, true)];
    bars.extend(RIVALS.iter().map(|(arm, name, _)| bar(name, *arm, false)));
    let chart_of = Bars {
        title: "Scoring a lead by 50 rules".into(),
        subtitle: format!("{} leads; each dot is one of {rounds} rounds (less is better)", grouped(f64::from(rows))),
        axis: "time above the bare scan, as a multiple of ours".into(),
        from: 0.0,
        groups: vec![Group { title: "a row".into(), target: None, bars }],
    };
    chart_of.write(&chart)?;
    report.publish_chart(&chart)?;
    Ok(())
}

fn fill(database: &Database, rows: u32) -> Result<()> {
    let paths = rules::paths(50);
    let script = format!(
        "SELECT bulkhead.put_shared_rule_set('fifty', '{}'), bulkhead.put_shared_rule_set('many', '{}');
         SET ROLE owner;
         CREATE TABLE leads AS SELECT i AS id, jsonb_build_object(
             'utm_source', (ARRAY['google', 'facebook', 'bing', 'none', 'direct'])[1 + h % 5], 'utm_medium', (ARRAY['cpc', 'organic', 'mail'])[1 + h % 3],
             'utm_campaign', 'c' || h % 20, 'budget', h % 20000, 'country', (ARRAY['DE', 'FR', 'US', 'BR', 'IN'])[1 + h / 7 % 5],
             'company', jsonb_build_object('name', 'Company number ' || i, 'employees', h % 1000, 'size', (ARRAY['S', 'M', 'L'])[1 + h % 3]),
             'industry', (ARRAY['software', 'finance', 'farming'])[1 + h / 3 % 3], 'phone', '+49' || h, 'pages', h % 17, 'visits', h % 9,
             'role', (ARRAY['cto', 'dev', 'clerk'])[1 + h / 5 % 3], 'email', 'someone' || i || '@example.com', 'first_name', 'Given', 'last_name', 'Family')
             || CASE WHEN h % 2 = 0 THEN jsonb_build_object('gclid', 'Cj0KCQ' || h) ELSE '{{}}' END AS document
           FROM (SELECT i, abs(hashint8(i)::bigint) AS h FROM generate_series(1, {rows}) i) AS numbers;
         CREATE TABLE some_leads AS SELECT * FROM leads WHERE id % 10 = 0;
         -- 20 kB each, in the row's own page or beside it as the server likes.
         CREATE TABLE large_leads AS SELECT id, document || (SELECT jsonb_object_agg('field_' || i, md5(i::text || id) || md5(id::text || i)) FROM generate_series(1, 230) i) AS document
           FROM some_leads WHERE id % 100 = 0;
         ALTER TABLE large_leads ALTER document SET STORAGE EXTERNAL; UPDATE large_leads SET document = document || '{{}}';
         CREATE TABLE rules (path jsonpath, score integer); INSERT INTO rules VALUES {paths}; ANALYZE rules;
         CREATE FUNCTION by_loop(document jsonb) RETURNS integer STABLE LANGUAGE plpgsql AS $$
         DECLARE rule record; total integer := 0;
         BEGIN FOR rule IN SELECT r.path, r.score FROM rules r LOOP IF document @@ rule.path THEN total := total + rule.score; END IF; END LOOP; RETURN total; END $$;
         RESET ROLE; VACUUM (FREEZE, ANALYZE) leads, some_leads, large_leads; CHECKPOINT",
        rules::rule_set(50),
        rules::rule_set(500)
    );
    database.admin(&script).map(drop)
}

/// The table that an arm reads, and the expression that it counts.
fn arm(arm: usize) -> (&'static str, String) {
    match arm {
        BARE => ("leads", "document".into()),
        OURS => ("leads", "bulkhead.score('fifty', document)".into()),
        MANY => ("leads", "bulkhead.score('many', document)".into()),
        LARGE_BARE => ("large_leads", "jsonb_typeof(document)".into()),
        LARGE => ("large_leads", "bulkhead.score('fifty', document)".into()),
        CASE => ("some_leads", rules::case(50)),
        PATHS => ("some_leads", "(SELECT coalesce(sum(score), 0) FROM rules WHERE document @@ path)".into()),
        LOOP => ("some_leads", "by_loop(document)".into()),
        _ => ("some_leads", "length(document::text)".into()),
    }
}

/// Microseconds a row above the bare scan, of each arm.
async fn evaluation(database: &Database, rows: u32, rounds: usize) -> Result<Rounds<ARMS>> {
    let session = database.connect("owner").await;
    session.run("SET max_parallel_workers_per_gather = 0; SET jit = off").await;
    check(&session).await?;
    let engine = Outside::new(&session).await?;
    let mut measured: Rounds<ARMS> = Rounds::default();
    let mut ticker = Ticker::new("evaluation", rounds);
    for round in 0..rounds {
        for number in bench::there_and_back(ARMS) {
            let (table, expression) = arm(number);
            let count = match table {
                "leads" => f64::from(rows),
                "some_leads" => f64::from(rows / 10),
                _ => f64::from(rows / 100),
            };
            let start = Instant::now();
            session.one(&format!("SELECT count({expression}) FROM {table}")).await;
            let mut time = start.elapsed();
            if number == TEXT {
                time += engine.run()?;
            }
            measured.add(number, time.as_secs_f64() * 1e6 / count);
        }
        measured.end_round();
        ticker.tick(round + 1);
    }
    Ok(measured.map(|round| {
        std::array::from_fn(|arm| match arm {
            BARE | LARGE_BARE => round[arm],
            LARGE => round[LARGE] - round[LARGE_BARE],
            _ => round[arm] - round[BARE],
        })
    }))
}

/// Every way gives the same scores: else it is not the same work.
async fn check(session: &Client) -> Result<()> {
    for number in [CASE, PATHS, LOOP] {
        let (_, expression) = arm(number);
        let sql = format!("SELECT count(*) FROM some_leads WHERE ({expression}) <> bulkhead.score('fifty', document)");
        let differ = session.one(&sql).await;
        ensure!(differ == "0", "{expression} differs for {differ} leads");
    }
    Ok(())
}

/// Another engine, which is given text.
struct Outside {
    engine: datalogic_rs::Engine,
    rules: Vec<(datalogic_rs::Logic, i64)>,
    documents: Vec<String>,
}

impl Outside {
    async fn new(session: &Client) -> Result<Outside> {
        let engine = datalogic_rs::Engine::new();
        let compile = |n: usize| {
            let logic = engine.compile(rules::condition(n).logic().to_string().as_str());
            logic.map(|logic| (logic, rules::score(n) as i64)).map_err(|error| anyhow::anyhow!("{error:?}"))
        };
        let rules = (0..50).map(compile).collect::<Result<Vec<_>>>()?;
        let documents = session.column("SELECT document::text FROM some_leads ORDER BY id").await;
        let outside = Outside { engine, rules, documents };
        let ours: i64 = session.one("SELECT sum(bulkhead.score('fifty', document)) FROM some_leads").await.parse()?;
        let theirs = outside.total()?;
        ensure!(ours == theirs, "datalogic-rs gives {theirs}, and we {ours}");
        Ok(outside)
    }

    fn total(&self) -> Result<i64> {
        let mut total = 0;
        let mut session = self.engine.session();
        for text in &self.documents {
            let document = datalogic_rs::ParsedData::from_json(text).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            for (rule, score) in &self.rules {
                session.reset();
                let value = session.eval_borrowed(rule, &document).map_err(|error| anyhow::anyhow!("{error:?}"))?;
                if value.as_bool() == Some(true) {
                    total += score;
                }
            }
        }
        Ok(total)
    }

    fn run(&self) -> Result<std::time::Duration> {
        let start = Instant::now();
        std::hint::black_box(self.total()?);
        Ok(start.elapsed())
    }
}

fn lines(measured: &Rounds<ARMS>, report: &mut Report) {
    let micros = |arm: usize| Figure(measured.median(arm), "µs");
    report.lines.push(Line {
        what: "50 rules, a lead of 430 bytes".into(),
        ours: micros(OURS),
        rival: "the bare scan itself".into(),
        rival_figure: micros(BARE),
        results: measured.values(OURS),
        unit: "µs a row",
        target: Some(Target::AtMost(3.0)),
    });
    for (arm, name, times) in RIVALS {
        report.lines.push(Line {
            what: "50 rules, a lead of 430 bytes".into(),
            ours: micros(OURS),
            rival: name.into(),
            rival_figure: micros(arm),
            results: measured.ratios(arm, OURS),
            unit: Line::TIMES,
            target: (times > 1.0).then_some(Target::AtLeast(times)),
        });
    }
    report.lines.push(Line {
        what: "500 rules".into(),
        ours: micros(MANY),
        rival: "ours, 50 rules".into(),
        rival_figure: micros(OURS),
        results: measured.ratios(MANY, OURS),
        unit: Line::TIMES,
        target: Some(Target::AtMost(12.0)),
    });
    report.lines.push(Line {
        what: "a lead of 20 kB, above reading it".into(),
        ours: micros(LARGE),
        rival: "ours, 430 bytes".into(),
        rival_figure: micros(OURS),
        results: measured.ratios(LARGE, OURS),
        unit: Line::TIMES,
        target: None,
    });
}
