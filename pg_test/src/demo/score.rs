//! Scene: a hundred thousand leads arrive, fifty rules say what each is worth, and why.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Tour;
use super::paint::number;
use super::progress;
use super::session::{Row, Session};
use super::story::duration;

const LEADS: u64 = 100_000;
/// Leads that come one by one, for the latency.
const SINGLE: usize = 300;
const TENANT: &str = "agency-7";
const RULES: &str = include_str!("data/lead_rules.json");

pub async fn play(tour: &mut Tour) -> Result<()> {
    tour.story.scene("Fifty rules, and why");
    let admin = Session::open(&tour.database, "postgres").await?;
    let Tour { story, owner, app, .. } = tour;
    owner.rows(include_str!("data/leads.sql")).await?;
    admin.rows("SELECT bulkhead.protect('leads')").await?;
    story.say(
        "Leads arrive as JSON, and an agency has fifty rules that say what one is worth. They are put once, checked and \
         compiled. Three of them:",
    );
    for line in RULES
        .lines()
        .filter(|line| ["business_address", "this_quarter", "spends_per_head"].iter().any(|id| line.contains(id)))
    {
        story.output(line.trim());
    }
    let act = format!("SET bulkhead.tenant_context = '{TENANT}'");
    admin.rows(&act).await?;
    admin.rows(&format!("SELECT bulkhead.put_rule_set('lead', '{}')", RULES.replace('\'', "''"))).await?;
    owner.rows("SELECT bulkhead.attach_scoring('leads', 'lead', version_column => 'rules_version')").await?;

    story.say(
        "A lead is saved with a plain INSERT and scored behind. What an INSERT takes, one by one, each its own commit:",
    );
    app.rows(&act).await?;
    let plain = latency(app).await?;
    owner
        .rows(
            "CREATE FUNCTION score_lead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           NEW.score := bulkhead.score('lead', NEW.document); NEW.status := 'scored'; RETURN NEW; END $$;
         CREATE TRIGGER score_lead BEFORE INSERT ON leads FOR EACH ROW EXECUTE FUNCTION score_lead()",
        )
        .await?;
    let in_line = latency(app).await?;
    owner.rows("DROP TRIGGER score_lead ON leads").await?;
    let line =
        |what: &str, [median, late]: [Duration; 2]| -> Row { vec![what.into(), duration(median), duration(late)] };
    story.table(
        &["ingest", "median", "99 %"],
        &[line("INSERT, scored behind", plain), line("INSERT with a trigger that scores by 50 rules", in_line)],
    );

    let filling = format!("INSERT INTO leads (document) SELECT a_lead(n) FROM generate_series(1, {LEADS}) n");
    owner.rows(&act).await?;
    progress::during(owner.rows(&filling), || format!("{} leads arrive", number(LEADS))).await?;
    owner.rows("RESET bulkhead.tenant_context").await?;
    let waiting = app.number("SELECT count(*) FROM leads WHERE status = 'pending_score'").await?;
    // As pg_cron would call it: for all tenants.
    admin.rows("RESET bulkhead.tenant_context").await?;
    let start = Instant::now();
    story.run(&admin, "CALL bulkhead.score_pending('leads')").await?;
    let time = start.elapsed();
    let left = app.number("SELECT count(*) FROM leads WHERE status <> 'scored' OR score IS NULL").await?;
    let rate = (waiting as f64 / time.as_secs_f64()) as u64;
    story.claim(
        waiting >= LEADS && left == 0,
        &format!(
            "{} leads were scored by 50 rules in {}: {} a second, in transactions of 1,000",
            number(waiting),
            duration(time),
            number(rate)
        ),
        &format!("{waiting} leads waited, and {left} are not scored"),
    )?;

    story.say("One of the best, and why:");
    let best = "SELECT f ->> 'id', f ->> 'score', f ->> 'values'
  FROM leads l, jsonb_array_elements(bulkhead.score_explain('lead', l.document) -> 'fired') f
 WHERE l.id = (SELECT id FROM leads ORDER BY score DESC, id LIMIT 1)";
    let why = story.run(app, best).await?;
    story.table(&["rule", "score", "because of"], &why);
    let score = app.value("SELECT score FROM leads ORDER BY score DESC, id LIMIT 1").await?;
    let sum = app
        .value(&format!(
            "SELECT trim_scale(sum(s::numeric)) = trim_scale({score}) FROM unnest('{{{}}}'::text[]) s",
            scores(&why)
        ))
        .await?;
    ensure!(!why.is_empty(), "nothing was explained");
    story.claim(
        sum == "t",
        &format!("Its score, {score}, is the sum of what fired"),
        &format!("the score is {score}, and {why:?} fired"),
    )?;
    app.rows("RESET bulkhead.tenant_context").await?;
    Ok(())
}

fn scores(why: &[Row]) -> String {
    why.iter().map(|row| row[1].clone()).collect::<Vec<_>>().join(",")
}

/// The median and the 99th percentile of single INSERTs.
async fn latency(app: &Session) -> Result<[Duration; 2]> {
    let mut times = Vec::with_capacity(SINGLE);
    for n in 0..SINGLE {
        let insert = format!("INSERT INTO leads (document) VALUES (a_lead({}))", 1_000_000 + n);
        let start = Instant::now();
        app.rows(&insert).await?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().context("no INSERT was measured");
    Ok([at(50)?, at(99)?])
}
