//! The real pg_cron runs maintain(), and any other scheduler does.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::fixture::{days, leaves_of, managed};
use crate::frame::need_pg_cron;
use crate::harness::{Nowhere, Skip};

pub fn tests() -> Vec<Trial> {
    crate::tests![a_job_of_pg_cron_runs_it => 300, without_pg_cron_it_says_what_to_do => 200]
}

/// Waits until the job has run; it is due once a minute.
async fn until(client: &Client, sql: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(130);
    loop {
        let value = client.one(sql).await;
        if value == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql} is {value}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn a_job_of_pg_cron_runs_it(_: Nowhere) -> Result<(), Skip> {
    let cluster = Cluster::builder().start().unwrap();
    let other = cluster.database("elsewhere").unwrap();
    need_pg_cron(&other)?;
    cluster.admin("postgres", "CREATE EXTENSION pg_cron; CREATE EXTENSION bulkhead").unwrap();
    let here = Client::connect(&cluster.config("postgres", "postgres")).await.unwrap();
    here.run("CREATE TABLE here (at timestamptz) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('here', '1 day', '3 days')").await;
    let health = "SELECT value FROM bulkhead.health() WHERE check_name = 'cron_success'";
    assert_eq!(here.one(health).await, "never");
    let job = here.one("SELECT bulkhead.schedule_maintenance()").await;
    assert_eq!(here.one("SELECT bulkhead.schedule_maintenance('* * * * *')").await, job, "the same job");
    let jobs = "SELECT jobname, schedule, command, database FROM cron.job";
    assert_eq!(
        here.rows(jobs).await,
        [["bulkhead maintenance postgres", "* * * * *", "CALL bulkhead.maintain()", "postgres"]]
    );
    here.refused("SELECT bulkhead.schedule_maintenance('now and then')").await;
    here.refused("SELECT bulkhead.schedule_maintenance(NULL)").await.state("22023");
    // From another database, the hint is what has to be run.
    let owner = managed(&other, 5).await;
    let refused = other.connect("postgres").await.refused("SELECT bulkhead.schedule_maintenance('* * * * *')").await;
    let refused = refused.state("55000").message("pg_cron keeps its jobs in database postgres");
    let name = &other.name;
    let expected = format!(
        "SELECT cron.schedule_in_database('bulkhead maintenance {name}', '* * * * *', 'CALL bulkhead.maintain()', '{name}')"
    );
    let refused = refused.hint(&expected);
    here.run(&refused.hint).await;
    until(&here, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'here'::regclass", "4").await;
    until(&owner, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass", "7").await;
    assert_eq!(leaves_of(&here, "here").await, days(&here, "here", 0, 3).await);
    until(&here, "SELECT count(DISTINCT database) FROM cron.job_run_details WHERE status = 'succeeded'", "2").await;
    let ok = "SELECT ok FROM bulkhead.health() WHERE check_name = 'cron_success'";
    assert_eq!(here.one(ok).await, "t");
    assert_eq!(other.connect("postgres").await.one(ok).await, "t");
    Ok(())
}

async fn without_pg_cron_it_says_what_to_do(_: Nowhere) {
    let cluster = Cluster::builder().setting("shared_preload_libraries", "bulkhead").start().unwrap();
    let db: Database = cluster.database("nocron").unwrap();
    managed(&db, 0).await;
    let client = db.connect("postgres").await;
    let refused = client.refused("SELECT bulkhead.schedule_maintenance()").await;
    refused.state("55000").hint_contains("psql -c 'CALL bulkhead.maintain()'");
    // Any scheduler will do.
    let output = db.psql("postgres", "CALL bulkhead.maintain();").unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(leaves_of(&client, "events").await, days(&client, "events", 0, 3).await);
}
