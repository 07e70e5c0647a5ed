//! The interleavings' own proof, on tables without tenants.

use libtest_mimic::Trial;
use pg_test::Database;
use pg_test::interleave::Interleaving;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_second_writer_waits_and_sees_the_first,
        a_deadlock_has_one_victim,
        sessions_may_be_of_different_roles,
        another_transcript_fails
    ]
}

async fn stock(db: &Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE stock (id int PRIMARY KEY, n int); INSERT INTO stock VALUES (1, 10), (2, 10)").await;
}

async fn the_second_writer_waits_and_sees_the_first(db: Database) {
    stock(&db).await;
    Interleaving::new(&db)
        .steps(
            "a: BEGIN
             a: UPDATE stock SET n = n - 1 WHERE id = 1
             b: UPDATE stock SET n = n - 1
                WHERE id = 1 RETURNING n
             a: COMMIT
             b: SELECT n FROM stock WHERE id = 3",
        )
        .gives(
            "a: BEGIN
             ok
             a: UPDATE stock SET n = n - 1 WHERE id = 1
             1 row
             b: UPDATE stock SET n = n - 1 WHERE id = 1 RETURNING n <waiting ...>
             a: COMMIT
             ok
             b: UPDATE stock SET n = n - 1 WHERE id = 1 RETURNING n <... completed>
             n
             8
             (1 row)
             b: SELECT n FROM stock WHERE id = 3
             n
             (0 rows)",
        )
        .await;
}

async fn a_deadlock_has_one_victim(db: Database) {
    stock(&db).await;
    // Only b looks for a deadlock soon, so it is always the victim; that takes a superuser.
    Interleaving::new(&db)
        .role("a", "postgres")
        .role("b", "postgres")
        .steps(
            "a: SET deadlock_timeout = '100s'; BEGIN
             b: SET deadlock_timeout = '500ms'; BEGIN
             a: UPDATE stock SET n = 0 WHERE id = 1
             b: UPDATE stock SET n = 0 WHERE id = 2
             a: UPDATE stock SET n = 0 WHERE id = 2
             b: UPDATE stock SET n = 0 WHERE id = 1
             b: ROLLBACK
             a: COMMIT",
        )
        .gives(
            "a: SET deadlock_timeout = '100s'; BEGIN
             ok
             ok
             b: SET deadlock_timeout = '500ms'; BEGIN
             ok
             ok
             a: UPDATE stock SET n = 0 WHERE id = 1
             1 row
             b: UPDATE stock SET n = 0 WHERE id = 2
             1 row
             a: UPDATE stock SET n = 0 WHERE id = 2 <waiting ...>
             b: UPDATE stock SET n = 0 WHERE id = 1 <waiting ...>
             b: UPDATE stock SET n = 0 WHERE id = 1 <... completed>
             ERROR 40P01: deadlock detected
             a: UPDATE stock SET n = 0 WHERE id = 2 <... completed>
             1 row
             b: ROLLBACK
             ok
             a: COMMIT
             ok",
        )
        .await;
}

async fn sessions_may_be_of_different_roles(db: Database) {
    Interleaving::new(&db)
        .role("boss", "postgres")
        .steps(
            "boss: SELECT current_user
             a: SELECT current_user::text
             a: SELECT 1/0",
        )
        .gives(
            "boss: SELECT current_user
             current_user
             postgres
             (1 row)
             a: SELECT current_user::text
             current_user
             app
             (1 row)
             a: SELECT 1/0
             ERROR 22012: division by zero",
        )
        .await;
}

async fn another_transcript_fails(db: Database) {
    let wrong = Interleaving::new(&db).steps("a: SELECT 1 AS one").gives(
        "a: SELECT 1 AS one
         one
         2
         (1 row)",
    );
    let failure = tokio::spawn(wrong).await;
    assert!(failure.is_err_and(|error| error.is_panic()));
}
