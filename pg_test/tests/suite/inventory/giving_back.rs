//! release_order(): what is given back, once, and what is not.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, acting, decide, left, shops, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![what_is_given_back_is_given_back_once, what_cannot_be_given_back_is_not_marked]
}

async fn what_is_given_back_is_given_back_once(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "4"), ("1", "b", "5"), ("2", "a", "100")]).await;
    let release = async |order: &str| app.one(&format!("SELECT bulkhead.release_order('stock', '{order}')")).await;
    assert_eq!(release("2").await, "0", "nothing was accepted");
    app.run("BEGIN").await;
    assert_eq!(release("1").await, "2");
    assert_eq!(release("1").await, "0");
    app.run("ROLLBACK").await;
    assert_eq!(left(&app).await, ["a 6", "b 0", "c 0"]);
    assert_eq!(release("1").await, "2");
    assert_eq!(release("1").await, "0");
    assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
    assert_eq!(
        decide(&app, "stock", &[("1", "a", "4"), ("1", "b", "5")]).await,
        ["accepted 6", "accepted 0"],
        "a replay"
    );
    assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6", "b accepted 0"]);
    app.refused("SELECT bulkhead.release_order('stock', 'never')")
        .await
        .state("55000")
        .message("order \"never\" has no verdict");
    app.refused("SELECT bulkhead.release_order('stock', NULL)").await.state("22023");
    // An item that is gone takes nothing back.
    decide(&app, "stock", &[("3", "a", "1"), ("3", "b", "1")]).await;
    app.run("DELETE FROM stock WHERE sku = 'b'").await;
    assert_eq!(release("3").await, "1");
    assert_eq!(left(&app).await, ["a 10", "c 0"]);
    // As long as nothing of it can be, it is not marked.
    decide(&app, "stock", &[("4", "a", "2")]).await;
    app.run("DELETE FROM stock WHERE sku = 'a'").await;
    assert_eq!(release("4").await, "0");
    app.run("INSERT INTO stock VALUES ('a', 1)").await;
    assert_eq!(release("4").await, "1");
    assert_eq!(left(&app).await, ["a 3", "c 0"]);
}

/// Rows that are there, and that the caller may not change: another may give them back.
async fn what_cannot_be_given_back_is_not_marked(db: Database) {
    let owner = shops(&db).await;
    owner
        .run(&format!(
            "SET bulkhead.tenant_context = '{A}'; INSERT INTO shops VALUES ('{A}', 'y', 10), ('{A}', 'z', 10);
             CREATE POLICY few ON shops AS RESTRICTIVE FOR UPDATE TO app USING (id <> 'x');
             CREATE POLICY none ON shops AS RESTRICTIVE FOR SELECT TO app USING (id <> 'z')"
        ))
        .await;
    let (app, owner) = (acting(&db, "app", A).await, acting(&db, "owner", A).await);
    decide(&owner, "shops", &[("1", "x", "4"), ("2", "x", "1"), ("2", "y", "2"), ("3", "z", "1")]).await;
    for (order, item) in [("1", "x"), ("2", "x"), ("3", "z")] {
        app.refused(&format!("SELECT bulkhead.release_order('shops', '{order}')"))
            .await
            .state("42501")
            .message(&format!("order \"{order}\" cannot be given back: 1 item of public.shops may not be changed"))
            .detail_contains(&format!("\"{item}\""));
    }
    for (order, lines) in [("1", "1"), ("2", "2"), ("3", "1")] {
        assert_eq!(owner.one(&format!("SELECT bulkhead.release_order('shops', '{order}')")).await, lines);
    }
    assert_eq!(owner.column("SELECT concat(id, quantity) FROM shops ORDER BY id").await, ["x10", "y10", "z10"]);
    // In an old snapshot a row of today is not there.
    decide(&owner, "shops", &[("4", "x", "4")]).await;
    db.admin(&format!(
        "BEGIN; SELECT bulkhead.begin_bypass('test'); DELETE FROM shops WHERE tenant_id = '{A}' AND id = 'x'; COMMIT"
    ))
    .unwrap();
    owner.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shops").await;
    db.admin(&format!("BEGIN; SELECT bulkhead.begin_bypass('test'); INSERT INTO shops VALUES ('{A}', 'x', 1); COMMIT"))
        .unwrap();
    owner.refused("SELECT bulkhead.release_order('shops', '4')").await.state("55000").hint_contains("READ COMMITTED");
    owner.run("ROLLBACK").await;
    assert_eq!(owner.one("SELECT bulkhead.release_order('shops', '4')").await, "1");
}
