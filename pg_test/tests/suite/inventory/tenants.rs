//! Items and orders of tenants, however the library is loaded.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, decide, shops, stored};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![a_tenants_items_and_orders_are_its_own, it_works_without_preloading, it_works_loaded_by_the_session]
}

async fn a_tenants_items_and_orders_are_its_own(db: Database) {
    shops(&db).await;
    for role in ["app", "svc", "owner", "postgres"] {
        let (a, b) = (acting(&db, role, A).await, acting(&db, role, B).await);
        let order = format!("{role} 1");
        let told = decide(&a, "shops", &[(&order, "x", "1"), (&order, "y", "1")]).await;
        assert_eq!(told, ["rejected 10", "unknown_item NULL"], "{role}");
        assert!(stored(&b, "shops", &order).await.is_empty(), "{role}");
        assert_eq!(decide(&b, "shops", &[(&order, "y", "1")]).await.len(), 1);
        assert!(decide(&b, "shops", &[(&order, "y", "1")]).await[0].starts_with("accepted"), "{role}");
        assert_eq!(stored(&a, "shops", &order).await.len(), 2, "{role}");
    }
    let none = db.connect("app").await;
    for sql in [
        "SELECT * FROM bulkhead.decrement_inventory('shops', '1', 'x', 1)",
        "SELECT * FROM bulkhead.order_verdicts('shops', 'app 1')",
        "SELECT bulkhead.release_order('shops', 'app 1')",
        "SELECT bulkhead.enqueue_decrement('shops', '1', 'x', 1)",
        "SELECT * FROM bulkhead.poisoned_orders('shops')",
    ] {
        none.refused(sql).await.state("42501").message_contains("no tenant context");
    }
    let text = db.admin("SELECT string_agg(id || ' ' || quantity, ', ' ORDER BY tenant_id, id) FROM shops").unwrap();
    assert_eq!(text, "x 10, x 3, y 3");
}

async fn it_works_without_preloading(db: WithoutPreload) {
    by_any_load(&db).await;
}

async fn it_works_loaded_by_the_session(db: SessionPreload) {
    by_any_load(&db).await;
}

/// The seal may not be there: the tenant is compared all the same, for roles that no policy binds.
async fn by_any_load(db: &Database) {
    shops(db).await;
    for role in ["app", "svc", "postgres"] {
        let (a, b) = (acting(db, role, A).await, acting(db, role, B).await);
        let order = format!("{role} 1");
        assert_eq!(decide(&a, "shops", &[(&order, "y", "1")]).await, ["unknown_item NULL"], "{role}");
        assert!(decide(&a, "shops", &[(&format!("{role} 2"), "x", "1")]).await[0].starts_with("accepted"));
        assert!(decide(&b, "shops", &[(&order, "x", "1")]).await[0].starts_with("accepted"));
    }
    let a = acting(db, "app", A).await;
    assert_eq!(a.one("SELECT quantity FROM shops").await, "7");
}
