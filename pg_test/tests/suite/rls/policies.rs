//! Policies of the user's own stay, and none of them widens what a tenant sees.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, NOTHING, OF_A, OF_B, acting, assert_same, bare_orders, orders, picture, seen, seen_by};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        permissive_policies_in_force_are_kept_and_not_widened,
        a_policy_for_one_command_is_kept_and_not_widened,
        restrictive_policies_in_force_are_kept,
        policies_that_were_not_in_force_are_kept,
        a_later_permissive_policy_widens_nothing,
        a_later_policy_for_one_role_widens_nothing,
        when_own_policies_are_dropped_protect_grants_again,
        the_old_tenant_policy_may_be_dropped_after_protect,
    ]
}

async fn permissive_policies_in_force_are_kept_and_not_widened(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON orders USING (id % 2 = 1)").await;
    let done = owner.column("SELECT bulkhead.protect('orders')").await;
    assert!(done.contains(&"-- public.orders keeps its policy \"mine\"".to_owned()), "{done:?}");
    assert!(done.iter().any(|line| line.starts_with("-- public.orders gets no policy bulkhead_tenant")), "{done:?}");
    // Odd ids of the tenant only: neither the even ones, nor the odd ones of others.
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1", "3"]);
    assert_eq!(seen_by(&db, B, "orders", "id").await, ["5"]);
    let app = acting(&db, "app", A).await;
    app.refused("INSERT INTO orders (id) VALUES (6)").await.state("42501");
    app.run("INSERT INTO orders (id) VALUES (7)").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
}

async fn a_policy_for_one_command_is_kept_and_not_widened(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY readers ON orders FOR SELECT USING (true)")
        .await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    let app = acting(&db, "app", A).await;
    assert_eq!(seen(&app).await, OF_A);
    // It was read-only for app before, and protect() is no grant.
    app.refused("INSERT INTO orders (id) VALUES (6)").await.state("42501");
    assert_eq!(app.column("UPDATE orders SET item = 'x' RETURNING id").await, NOTHING);
}

async fn restrictive_policies_in_force_are_kept(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
             CREATE POLICY everything ON orders USING (true);
             CREATE POLICY no_twos ON orders AS RESTRICTIVE USING (id <> 2);
             SELECT bulkhead.protect('orders')",
        )
        .await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1", "3"]);
    assert_eq!(seen_by(&db, B, "orders", "id").await, OF_B);
}

async fn policies_that_were_not_in_force_are_kept(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run("CREATE POLICY everything ON orders USING (true); CREATE POLICY no_twos ON orders AS RESTRICTIVE USING (id <> 2)")
        .await;
    let bare = picture(&owner, "orders").await;
    let done = owner.column("SELECT bulkhead.protect('orders')").await;
    for name in ["everything", "no_twos"] {
        assert!(done.contains(&format!("-- public.orders keeps its policy {name:?}")), "{done:?}");
    }
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1", "3"]);
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_same(&picture(&owner, "orders").await, &bare, "orders");
}

async fn a_later_permissive_policy_widens_nothing(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE POLICY evil ON orders USING (true) WITH CHECK (true)").await;
    for role in ["app", "owner"] {
        let client = acting(&db, role, A).await;
        assert_eq!(seen(&client).await, OF_A, "{role}");
        let alien = format!("INSERT INTO orders VALUES (6, '{B}')");
        let refused = client.refused(&alien).await;
        refused
            .state("42501")
            .message("new row violates row-level security policy \"bulkhead_floor\" for table \"orders\"");
        assert_eq!(client.column("UPDATE orders SET item = 'x' WHERE id > 3 RETURNING id").await, NOTHING, "{role}");
        assert_eq!(client.column("DELETE FROM orders WHERE id > 3 RETURNING id").await, NOTHING, "{role}");
    }
    assert_eq!(seen_by(&db, B, "orders", "id").await, OF_B);
}

async fn a_later_policy_for_one_role_widens_nothing(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(
            "CREATE POLICY a ON orders FOR SELECT TO app USING (true);
             CREATE POLICY b ON orders FOR INSERT TO app WITH CHECK (true);
             CREATE POLICY c ON orders FOR UPDATE TO app USING (true) WITH CHECK (true);
             CREATE POLICY d ON orders FOR DELETE TO app USING (true)",
        )
        .await;
    let app = acting(&db, "app", A).await;
    assert_eq!(seen(&app).await, OF_A);
    app.refused(&format!("INSERT INTO orders VALUES (6, '{B}')")).await.state("42501");
    app.refused(&format!("UPDATE orders SET tenant_id = '{B}'")).await.state("42501");
    assert_eq!(app.column("DELETE FROM orders RETURNING id").await.len(), 3);
    assert_eq!(seen_by(&db, B, "orders", "id").await, OF_B);
}

async fn when_own_policies_are_dropped_protect_grants_again(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON orders USING (id = 1);
             SELECT bulkhead.protect('orders'); DROP POLICY mine ON orders",
        )
        .await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, NOTHING);
    let done = owner.column("SELECT bulkhead.protect('orders')").await;
    assert_eq!(done.len(), 1, "{done:?}");
    assert!(done[0].starts_with("CREATE POLICY bulkhead_tenant"), "{done:?}");
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
}

async fn the_old_tenant_policy_may_be_dropped_after_protect(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
             CREATE POLICY usual ON orders USING (tenant_id = current_setting('app.tenant', true)::uuid);
             SELECT bulkhead.protect('orders')",
        )
        .await;
    let app = acting(&db, "app", A).await;
    // Both have to hold.
    assert_eq!(seen(&app).await, NOTHING);
    app.run(&format!("SET app.tenant = '{B}'")).await;
    assert_eq!(seen(&app).await, NOTHING);
    app.run(&format!("SET app.tenant = '{A}'")).await;
    assert_eq!(seen(&app).await, OF_A);
    owner.run("DROP POLICY usual ON orders; SELECT bulkhead.protect('orders')").await;
    app.run("RESET app.tenant").await;
    assert_eq!(seen(&app).await, OF_A);
}
