//! The last sections of docs/migrations.md, step by step: between the steps nobody sees more than before the first.
//!
//! A step is an SQL block of the page; what stands before its section's first numbered step makes the tables and rows. Who
//! looks is a plain role, as the application was, as it is while both ways are served, and as it will be.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use pg_test::{Client, Database, root};
use serde_json::json;

use crate::tokens::fixture::{Issuer, jwks, now, setting};

pub fn tests() -> Vec<Trial> {
    crate::tests![from_current_setting, from_user_to_organization, a_row_finds_its_organization, from_supabase]
}

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

/// What a section has before its numbered list, and each block in it.
struct Section {
    before: Vec<String>,
    steps: Vec<String>,
}

fn section(heading: &str) -> Section {
    let page = std::fs::read_to_string(root().join("docs/migrations.md")).unwrap();
    let text = page.split("\n## ").find(|text| text.starts_with(heading)).unwrap_or_else(|| panic!("no {heading}"));
    let mut section = Section { before: Vec::new(), steps: Vec::new() };
    let (mut block, mut numbered) = (None::<Vec<&str>>, false);
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sql" | "<!-- setup") => block = Some(Vec::new()),
            (None, line) => numbered |= line.starts_with("1. "),
            (Some(lines), "```" | "-->") => {
                let sql = lines.join("\n");
                if numbered {
                    section.steps.push(sql)
                } else {
                    section.before.push(sql)
                }
                block = None;
            }
            (Some(lines), line) => lines.push(line),
        }
    }
    assert!(!section.before.is_empty() && section.steps.len() > 1, "{heading} has no steps");
    section
}

/// Somebody who looks: what the transaction begins with, as the application was, while it serves both, and as it will be.
struct Viewer {
    name: &'static str,
    old: String,
    both: String,
    new: String,
    /// Writes a row that is somebody else's.
    trespass: String,
}

type Seen = BTreeSet<i32>;

/// What `app` sees, and nothing where it is refused.
async fn sees(app: &Client, begin: &str, query: &str) -> Seen {
    app.run("BEGIN").await;
    let seen = async {
        app.simple_query(begin).await?;
        app.query(query, &[]).await
    };
    let rows = seen.await;
    app.run("ROLLBACK").await;
    rows.map(|rows| rows.iter().map(|row| row.get(0)).collect()).unwrap_or_default()
}

async fn may_write(app: &Client, begin: &str, statement: &str) -> bool {
    app.run("BEGIN").await;
    let done = async {
        app.simple_query(begin).await?;
        app.execute(statement, &[]).await
    };
    let done = done.await;
    app.run("ROLLBACK").await;
    done.is_ok_and(|rows| rows > 0)
}

/// Runs the section; `on_purpose` is the number of steps after which more may be seen, and what is seen then by whom.
async fn play(db: &Database, heading: &str, query: &str, viewers: &[Viewer], on_purpose: Option<usize>) -> Vec<Seen> {
    let section = section(heading);
    let owner = db.connect("owner").await;
    for sql in &section.before {
        owner.run(sql).await;
    }
    let app = db.connect("app").await;
    let mut before = Vec::new();
    for viewer in viewers {
        before.push(sees(&app, &viewer.old, query).await);
    }
    assert!(before.iter().any(|seen| !seen.is_empty()), "nobody sees anything to begin with");
    for (number, step) in section.steps.iter().enumerate() {
        owner.run(step).await;
        assert_eq!(sees(&app, "", query).await, Seen::new(), "without anything, after\n{step}");
        for (viewer, before) in viewers.iter().zip(&before) {
            let name = viewer.name;
            for begin in [&viewer.old, &viewer.both, &viewer.new] {
                let seen = sees(&app, begin, query).await;
                let more = on_purpose.is_some_and(|steps| number + 1 >= steps);
                assert!(
                    more || seen.is_subset(before),
                    "{name} by\n{begin}\nsees {seen:?} after\n{step}\nand saw {before:?}"
                );
                assert!(!may_write(&app, begin, &viewer.trespass).await, "{name} by\n{begin}\nwrites after\n{step}");
            }
            // Who does both goes on working: the application is never down. Who sees two at a time sees one.
            assert!(
                !sees(&app, &viewer.both, query).await.is_empty() || before.is_empty(),
                "{name} sees nothing after\n{step}"
            );
        }
    }
    let mut after = Vec::new();
    for viewer in viewers {
        after.push(sees(&app, &viewer.new, query).await);
    }
    after
}

fn set(numbers: &[i32]) -> Seen {
    numbers.iter().copied().collect()
}

async fn from_current_setting(db: Database) {
    let viewer = |name, tenant: &str, other: &str| {
        let old = format!("SET LOCAL app.tenant = '{tenant}';");
        let new = format!("SELECT bulkhead.set_tenant('{tenant}');");
        let trespass = format!("INSERT INTO invoice VALUES (99, '{other}', 1)");
        Viewer { name, both: format!("{old} {new}"), old, new, trespass }
    };
    let mut viewers = vec![viewer("A", A, B), viewer("B", B, A)];
    let after = play(&db, "From policies on current_setting", "SELECT id FROM invoice", &viewers, None).await;
    assert_eq!(after, [set(&[2, 4, 6]), set(&[1, 3, 5])]);
    // The old setting says nothing any more.
    let app = db.connect("app").await;
    let forged = format!("SET LOCAL app.tenant = '{B}'; {}", viewers.remove(0).new);
    assert_eq!(sees(&app, &forged, "SELECT id FROM invoice").await, set(&[2, 4, 6]));
}

async fn from_user_to_organization(db: Database) {
    let viewer = |name, user: &str, org: &str, other: &str| {
        let old = format!("SET LOCAL app.user_id = '{user}';");
        let new = format!("{old} SELECT bulkhead.set_tenant('{org}');");
        Viewer {
            name,
            both: new.clone(),
            old,
            new,
            trespass: format!("UPDATE note SET body = 'mine' WHERE user_id = '{other}'"),
        }
    };
    let viewers = [
        viewer("Ada", "ada", "acme", "eve"),
        viewer("Bob", "bob", "acme", "eve"),
        viewer("Eve", "eve", "globex", "ada"),
    ];
    let steps = section("From user_id to org_id").steps.len();
    let after = play(&db, "From user_id to org_id", "SELECT id FROM note", &viewers, Some(steps)).await;
    assert_eq!(after, [set(&[1, 3, 4, 6, 7, 9]), set(&[1, 3, 4, 6, 7, 9]), set(&[2, 5, 8])]);
}

/// Step 1 of the way to org_id: who has not heard of the column fills it.
async fn a_row_finds_its_organization(db: Database) {
    let section = section("From user_id to org_id");
    let owner = db.connect("owner").await;
    for sql in section.before.iter().chain(&section.steps[..1]) {
        owner.run(sql).await;
    }
    let app = db.connect("app").await;
    app.run(
        "BEGIN; SET LOCAL app.user_id = 'eve'; INSERT INTO note (id, user_id, body) VALUES (10, 'eve', 'new'); COMMIT",
    )
    .await;
    assert_eq!(owner.one("SELECT org_id FROM note WHERE id = 10").await, "globex");
}

async fn from_supabase(db: Database) {
    let issuer = Issuer::es("k1");
    setting(&db, "bulkhead.jwks", &jwks(&[&issuer])).await;
    setting(&db, "bulkhead.tenant_claim", "app_metadata.org_id").await;
    let viewer = |name, number: u32, org: &str, other: &str| {
        let user =
            format!("{number}{number}{number}{number}{number}{number}{number}{number}-0000-4000-8000-000000000000");
        let old = format!("SET LOCAL request.jwt.claims = '{}';", json!({"sub": user}));
        let claims = json!({"sub": user, "app_metadata": {"org_id": org}, "exp": now() + 3600});
        let new = format!("SELECT bulkhead.set_tenant('{}');", issuer.sign(&claims));
        let trespass = format!("INSERT INTO document VALUES (99, '{other}', 'x')");
        Viewer { name, both: format!("{old} {new}"), old, new, trespass }
    };
    let nobody = "cccccccc-0000-4000-8000-000000000000";
    let viewers = [viewer("1 in A", 1, A, nobody), viewer("1 in B", 1, B, nobody), viewer("2 in B", 2, B, A)];
    let after = play(&db, "From Supabase", "SELECT id FROM document", &viewers, None).await;
    assert_eq!(after, [set(&[2, 4, 6]), set(&[1, 3, 5]), set(&[1, 3, 5])]);
    // What any statement can write says nothing any more.
    let app = db.connect("app").await;
    let forged = viewers[0].old.replace("11111111", "22222222");
    assert_eq!(sees(&app, &forged, "SELECT id FROM document").await, Seen::new());
}
