//! A server in single-user mode with the library preloaded: it starts, nothing is sealed, and status() says so.

use libtest_mimic::Trial;
use pg_test::Cluster;

use super::A;
use super::fixture::orders;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_seal_is_not_in_force_and_what_is_written_is_kept => 240]
}

async fn the_seal_is_not_in_force_and_what_is_written_is_kept(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("single").unwrap();
    drop(orders(&db).await);
    cluster.stop().unwrap();
    let script = format!(
        "SELECT 'preloaded: ' || setting FROM pg_settings WHERE name = 'shared_preload_libraries'
         SELECT value || ': ' || detail AS seal FROM bulkhead.status() WHERE item = 'seal'
         SELECT count(*) AS naked FROM orders
         SET bulkhead.tenant_context = '{A}'
         SELECT count(*) AS superuser FROM orders
         UPDATE orders SET item = 'mended'
         SET ROLE app
         SELECT count(*) AS app FROM orders
        "
    );
    let script: String = script.lines().map(|line| format!("{}\n", line.trim())).collect();
    let output = cluster.single_user(&db.name, &script).unwrap();
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {log}", output.status);
    assert!(!log.contains("ERROR") && !log.contains("PANIC"), "{log}");
    for answer in ["bulkhead", "seal = \"off: single-user mode\"", "naked = \"5\"", "superuser = \"5\"", "app = \"3\""]
    {
        assert!(said.contains(answer), "{answer}: {said}\n{log}");
    }
    cluster.start().unwrap();
    let client = db.connect("postgres").await;
    client.refused("SELECT * FROM orders").await.state("42501");
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE item = 'mended'").unwrap(), "5");
}
