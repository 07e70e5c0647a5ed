//! Workers come where they are asked for, and are in nobody's way.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Cluster, Database};

use super::fixture::{buy, left, now, stock, stored, until, worker};
use crate::harness::{Nowhere, WithWorkers};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        commands_on_the_database_meet_no_worker,
        a_name_that_moves_takes_no_worker_along,
        a_dropped_database_leaves_nothing_behind,
        a_queue_that_a_restart_has_left,
        who_waits_in_vain_hears_of_a_reload,
        others_cannot_send_a_worker_away,
        a_dropped_extension_ends_its_worker,
        an_upgraded_or_new_extension_goes_on,
        the_setting_says_where,
        few_processes_are_shared,
        a_standby_that_is_gone_holds_up_only_who_waits_for_it,
        a_standby_refuses_until_it_is_promoted => 300,
    ]
}

async fn commands_on_the_database_meet_no_worker(db: WithWorkers) {
    let cluster = db.cluster.clone();
    let asked = async |name: &str| -> Database {
        let inner = Database { cluster: cluster.clone(), name: name.to_owned() };
        let owner = inner.connect("owner").await;
        owner.run("CREATE TABLE IF NOT EXISTS mine (id text PRIMARY KEY, quantity int); SELECT bulkhead.register_inventory('mine')").await;
        assert_eq!(owner.one("SELECT verdict FROM bulkhead.decrement_now('mine', '1', 'a', 1)").await, "unknown_item");
        assert!(!worker(&inner).is_empty());
        inner
    };
    // The server refuses, after five seconds, where somebody is still there.
    let (first, second, copy) = (format!("{}_1", db.name), format!("{}_2", db.name), format!("{}_3", db.name));
    let admin = |sql: &str| cluster.admin("postgres", sql).unwrap();
    admin(&format!("CREATE DATABASE {first} TEMPLATE bulkhead_template"));
    cluster.admin(&first, "GRANT CREATE ON SCHEMA public TO owner").unwrap();
    asked(&first).await;
    admin(&format!("CREATE DATABASE {copy} TEMPLATE {first}"));
    asked(&first).await;
    asked(&copy).await;
    admin(&format!("ALTER DATABASE {first} RENAME TO {second}"));
    asked(&second).await;
    admin(&format!("DROP DATABASE {second}"));
    admin(&format!("DROP DATABASE {copy} WITH (FORCE)"));
}

/// Blue and green: the shop of yesterday keeps its worker, and the new one of that name gets its own.
async fn a_name_that_moves_takes_no_worker_along(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let (shop, new) = (cluster.database("shop").unwrap(), cluster.database("shop_new").unwrap());
    let old = Database { cluster: cluster.clone(), name: format!("{}_old", shop.name) };
    let admin = |sql: &str| cluster.admin("postgres", sql).unwrap();
    let rename = |from: &Database, to: &Database| admin(&format!("ALTER DATABASE {} RENAME TO {}", from.name, to.name));
    let has_one = |db: &Database| worker(db).lines().count() == 1;
    stock(&shop).await;
    stock(&new).await;
    // So that this one has the first desk, which is the one that every backend looks at first.
    cluster.restart().unwrap();
    assert_eq!(buy(&shop.connect("app").await, "stock", "1", "a", 1).await, "accepted 9");
    rename(&shop, &old);
    let of_old = old.connect("app").await;
    assert_eq!(buy(&of_old, "stock", "2", "a", 1).await, "accepted 8");
    rename(&new, &shop);
    let of_new = shop.connect("app").await;
    assert_eq!(buy(&of_new, "stock", "1", "a", 2).await, "accepted 8");
    assert_eq!(buy(&of_old, "stock", "3", "a", 1).await, "accepted 7");
    assert_eq!(buy(&old.connect("app").await, "stock", "4", "a", 1).await, "accepted 6");
    assert!(has_one(&old) && has_one(&shop), "{} and {}", worker(&old), worker(&shop));
    // With a setting that names it, the worker is where the name is.
    admin(&format!("ALTER SYSTEM SET bulkhead.drain_databases = '{}'", shop.name));
    admin("SELECT pg_reload_conf()");
    until("no worker where the name was", async || worker(&old).is_empty() && has_one(&shop)).await;
    drop((of_old, of_new));
    rename(&shop, &new);
    rename(&old, &shop);
    shop.connect("app").await.run("SELECT bulkhead.enqueue_decrement('stock', 'queued', 'a', 1)").await;
    until("a worker where the name is", async || worker(&new).is_empty() && has_one(&shop)).await;
    let app = shop.connect("app").await;
    until("drained", async || stored(&app, "stock", "queued").await == ["a accepted 5"]).await;
    let refused = new.connect("app").await;
    refused.refused(&now("stock", "2", "a", 1)).await.state("55000").message("no worker runs in this database");
}

/// Room for one worker beside the launchers and pg_cron; and that one is the database's for good.
async fn only_worker(cluster: &Cluster, of: &Database) {
    for setting in [
        format!("max_worker_processes = {}", 3 + i32::from(cluster.provision().pg_cron)),
        format!("bulkhead.drain_databases = '{}, *'", of.name),
    ] {
        cluster.admin("postgres", &format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    cluster.restart().unwrap();
    until("a worker", async || !worker(of).is_empty()).await;
}

/// Orders that nobody waits for, in a database that is dropped before a worker could see to them.
async fn a_dropped_database_leaves_nothing_behind(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.decrement_slots", "4").start().unwrap();
    let (other, gone) = (cluster.database("other").unwrap(), cluster.database("gone").unwrap());
    let admin = |sql: &str| cluster.admin("postgres", sql).unwrap();
    let owner = stock(&other).await;
    stock(&gone).await;
    drop(owner);
    only_worker(&cluster, &other).await;
    let app = gone.connect("app").await;
    let for_nobody =
        |order: &str| format!("SELECT verdict FROM bulkhead.decrement_now('stock', '{order}', 'a', 1, '0')");
    for order in ["1", "2"] {
        assert_eq!(app.one(&for_nobody(order)).await, "pending");
    }
    app.refused(&for_nobody("3")).await.state("53400");
    drop(app);
    let oid = admin(&format!("SELECT oid FROM pg_database WHERE datname = '{}'", gone.name));
    admin(&format!("DROP DATABASE {}", gone.name));
    // All slots are there for others.
    let owner = other.connect("owner").await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    let mut waiting = tokio::task::JoinSet::new();
    for order in ["1", "2", "3"] {
        let app = other.connect("app").await;
        waiting.spawn(async move { buy(&app, "stock", order, "a", 1).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let app = other.connect("app").await;
    assert_eq!(buy(&app, "stock", "4", "b", 1).await, "accepted 4");
    owner.run("COMMIT").await;
    let told = waiting.join_all().await;
    assert!(told.iter().all(|told| told.starts_with("accepted")), "{told:?}");
    // A name that is asked for in vain for a while, and then is a database's.
    admin(&format!("ALTER SYSTEM SET bulkhead.drain_databases = '{}, *'", gone.name));
    admin("SELECT pg_reload_conf()");
    tokio::time::sleep(Duration::from_secs(3)).await;
    admin(&format!("CREATE DATABASE {} TEMPLATE bulkhead_template", gone.name));
    cluster.admin(&gone.name, "GRANT CREATE ON SCHEMA public TO owner").unwrap();
    let owner = stock(&gone).await;
    let soon = "SELECT verdict FROM bulkhead.decrement_now('stock', '1', 'a', 1, '1 s')";
    assert_eq!(owner.one(soon).await, "accepted");
    // Nobody is sent to what is no more.
    let in_vain = format!("database {} does not exist", oid.trim());
    assert!(!cluster.log().contains(&in_vain), "{in_vain}");
}

async fn a_queue_that_a_restart_has_left(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let (one, other) = (cluster.database("one").unwrap(), cluster.database("other").unwrap());
    stock(&one).await.run("SELECT bulkhead.enqueue_decrement('stock', 'queued', 'a', 1)").await;
    let owner = stock(&other).await;
    let prepare = "BEGIN; SELECT bulkhead.enqueue_decrement('stock', 'prepared', 'a', 1); PREPARE TRANSACTION 'queued'";
    owner.run(prepare).await;
    drop(owner);
    cluster.admin("postgres", "ALTER SYSTEM SET bulkhead.drain_databases = '*'").unwrap();
    cluster.restart().unwrap();
    let verdicts = |db: &Database| db.admin("SELECT count(*) FROM bulkhead.order_verdict").unwrap().trim().to_owned();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!([verdicts(&one), verdicts(&other)], ["0", "0"]);
    // Who asks for the verdict has it made.
    let app = one.connect("app").await;
    until("drained", async || stored(&app, "stock", "queued").await == ["a accepted 9"]).await;
    other.connect("owner").await.run("COMMIT PREPARED 'queued'").await;
    until("drained", async || verdicts(&other) == "1").await;
}

/// There was no process for a worker until the setting wanted none.
async fn who_waits_in_vain_hears_of_a_reload(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let (other, waits) = (cluster.database("other").unwrap(), cluster.database("waits").unwrap());
    stock(&waits).await;
    only_worker(&cluster, &other).await;
    let app = waits.connect("app").await;
    let long = "SELECT bulkhead.decrement_now('stock', '1', 'a', 1, '60 s')";
    let waiting = tokio::spawn(async move { app.batch_execute(long).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(worker(&waits).is_empty() && !waiting.is_finished());
    let start = Instant::now();
    cluster.admin("postgres", "ALTER SYSTEM SET bulkhead.drain_databases = ''").unwrap();
    cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "55000", "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    until("no worker", async || worker(&waits).is_empty() && worker(&other).is_empty()).await;
}

async fn others_cannot_send_a_worker_away(db: WithWorkers) {
    let owner = stock(&db).await;
    buy(&owner, "stock", "1", "a", 1).await;
    let before = worker(&db);
    let other = db.cluster.database("other").unwrap();
    let app = other.connect("app").await;
    for command in [
        format!("DROP DATABASE {}", db.name),
        format!("ALTER DATABASE {} RENAME TO theirs", db.name),
        format!("CREATE DATABASE theirs TEMPLATE {}", db.name),
    ] {
        app.refused(&command).await.state("42501");
    }
    // A role that may make databases may not copy this one.
    let maker = "maker_of_databases";
    other.admin(&format!("CREATE ROLE {maker} CREATEDB; GRANT {maker} TO app")).unwrap();
    app.run(&format!("SET ROLE {maker}")).await;
    let copy = format!("CREATE DATABASE theirs TEMPLATE {}", db.name);
    app.refused(&copy).await.state("42501").message_contains("permission denied to copy database");
    app.run("RESET ROLE").await;
    other.admin(&format!("DROP ROLE {maker}")).unwrap();
    assert_eq!(worker(&db), before);
}

async fn a_dropped_extension_ends_its_worker(db: WithWorkers) {
    let owner = stock(&db).await;
    buy(&owner, "stock", "1", "a", 1).await;
    // Sessions that know what is protected hold no lock on the extension's tables while they wait.
    owner.run("SELECT FROM stock").await;
    let mut callers = Vec::new();
    for order in 0..5 {
        let app = db.connect("app").await;
        buy(&app, "stock", &format!("warm {order}"), "b", 1).await;
        callers.push(app);
    }
    owner.run("BEGIN; LOCK TABLE stock IN EXCLUSIVE MODE").await;
    let mut waiting = tokio::task::JoinSet::new();
    for (order, app) in callers.into_iter().enumerate() {
        waiting.spawn(async move { app.batch_execute(&now("stock", &format!("waits {order}"), "a", 1)).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    db.admin("DROP EXTENSION bulkhead CASCADE").unwrap();
    owner.run("ROLLBACK").await;
    let start = Instant::now();
    while let Some(one) = waiting.join_next().await {
        let error = one.unwrap().unwrap_err();
        assert_eq!(error.as_db_error().unwrap().code().code(), "55000", "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    until("the worker ends", async || worker(&db).is_empty()).await;
}

async fn an_upgraded_or_new_extension_goes_on(db: WithWorkers) {
    let owner = stock(&db).await;
    buy(&owner, "stock", "1", "a", 1).await;
    db.admin("DROP EXTENSION bulkhead CASCADE; CREATE EXTENSION bulkhead").unwrap();
    owner.run("SELECT bulkhead.register_inventory('stock', 'sku', 'pieces')").await;
    // Another registration: the order is not known.
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 8");
}

async fn the_setting_says_where(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.drain_databases", "").start().unwrap();
    let (one, other) = (cluster.database("one").unwrap(), cluster.database("other").unwrap());
    let set = |value: &str| {
        let alter = format!("ALTER SYSTEM SET bulkhead.drain_databases = '{value}'");
        cluster.admin("postgres", &alter).unwrap();
        cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    };
    for db in [&one, &other] {
        let owner = stock(db).await;
        owner.refused(&now("stock", "1", "a", 1)).await.state("55000");
        owner.run("SELECT bulkhead.enqueue_decrement('stock', 'queued', 'a', 1)").await;
    }
    // It is started without being asked, and finds what was queued before.
    set(&format!("nonsense, {}", one.name));
    until("a worker", async || !worker(&one).is_empty()).await;
    let owner = one.connect("owner").await;
    until("drained", async || stored(&owner, "stock", "queued").await == ["a accepted 9"]).await;
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 8");
    other.connect("owner").await.refused(&now("stock", "1", "a", 1)).await.state("55000");
    // And after a restart.
    cluster.restart().unwrap();
    until("a worker", async || !worker(&one).is_empty()).await;
    // Who waits while the setting takes the worker away hears of it.
    let owner = one.connect("owner").await;
    owner.run("BEGIN; SELECT FROM stock WHERE sku = 'a' FOR UPDATE").await;
    let waits = {
        let app = one.connect("app").await;
        tokio::spawn(async move { app.batch_execute(&now("stock", "waits", "a", 1)).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    set(&other.name);
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "55000");
    until("no worker", async || worker(&one).is_empty()).await;
    until("another worker", async || !worker(&other).is_empty()).await;
    let owner = other.connect("owner").await;
    until("drained", async || left(&owner).await[0] == "a 9").await;
}

/// Six databases that want a worker, and room for three.
async fn few_processes_are_shared(_: Nowhere) {
    // The launchers, ours and the server's, take two; pg_cron's one.
    let cluster = Cluster::builder().setting("max_worker_processes", "6").start().unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let db = cluster.database(&format!("many{number}")).unwrap();
        callers.spawn(async move {
            let owner = stock(&db).await;
            for order in 0..3 {
                let told = owner
                    .rows(&format!("SELECT verdict FROM bulkhead.decrement_now('stock', '{order}', 'a', 1, '60 s')"))
                    .await;
                assert_eq!(told, [["accepted"]]);
            }
        });
    }
    while let Some(one) = callers.join_next().await {
        one.unwrap();
    }
}

async fn a_standby_refuses_until_it_is_promoted(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("primary").unwrap();
    let owner = stock(&db).await;
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 9");
    drop(owner);
    // The same directory as a standby without a primary: it waits for one, and can be promoted.
    cluster.stop().unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start().unwrap();
    let owner = db.connect("owner").await;
    assert_eq!(owner.one("SELECT pg_is_in_recovery()").await, "t");
    owner.refused(&now("stock", "2", "a", 1)).await.state("25006");
    assert!(worker(&db).is_empty());
    assert_eq!(stored(&owner, "stock", "1").await, ["a accepted 9"]);
    db.admin("SELECT pg_promote()").unwrap();
    until("promoted", async || owner.one("SELECT pg_is_in_recovery()").await == "f").await;
    let owner = db.connect("owner").await;
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 9");
    assert_eq!(buy(&owner, "stock", "2", "a", 1).await, "accepted 8");
}

/// Each caller waits for standbys as its own synchronous_commit says; the worker for none.
async fn a_standby_that_is_gone_holds_up_only_who_waits_for_it(_: Nowhere) {
    let cluster = Cluster::builder()
        .setting("synchronous_standby_names", "nobody")
        .setting("synchronous_commit", "local")
        .start()
        .unwrap();
    let db = cluster.database("alone").unwrap();
    let owner = stock(&db).await;
    assert_eq!(buy(&owner, "stock", "1", "a", 1).await, "accepted 9");
    let waits = {
        let app = db.connect("app").await;
        app.run("SET synchronous_commit = on").await;
        tokio::spawn(async move { buy(&app, "stock", "2", "a", 1).await })
    };
    until("decided", async || stored(&owner, "stock", "2").await == ["a accepted 8"]).await;
    for order in ["3", "4", "5"] {
        assert!(buy(&owner, "stock", order, "a", 1).await.starts_with("accepted"));
    }
    assert!(!waits.is_finished());
    cluster.admin("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    cluster.admin("postgres", "SELECT pg_reload_conf()").unwrap();
    assert_eq!(waits.await.unwrap(), "accepted 8");
}
