//! The SQL of README.md and docs/*.md does what the pages say.

use std::path::Path;

use libtest_mimic::Trial;
use pg_test::{Database, doctest};

use crate::harness::{WithWorkers, trial_named};

/// One test for each page, named after it, and the proof that a wrong page is noticed.
pub fn tests() -> Vec<Trial> {
    let mut trials = crate::tests![a_page_is_run_as_written, a_wrong_page_is_noticed];
    for page in doctest::pages() {
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        let needs_workers = name == "group-commit";
        let name = format!("docs::{name}");
        let check = move |db: &Database| {
            if let Err(error) = doctest::run(&page, db) {
                panic!("{error:#}\n(BLESS=1 writes what was printed into the page)");
            }
        };
        trials.push(if needs_workers {
            trial_named(name, move |db: WithWorkers| async move { check(&db) })
        } else {
            trial_named(name, move |db: Database| async move { check(&db) })
        });
    }
    trials
}

fn run(db: &Database, page: &str) -> Result<(), String> {
    let path = db.cluster.dir().join(format!("{}.md", db.name));
    std::fs::write(&path, page).unwrap();
    doctest::run(Path::new(&path), db).map_err(|error| format!("{error:#}"))
}

async fn a_page_is_run_as_written(db: Database) {
    let page = "\
<!-- setup
\\connect - postgres
CREATE ROLE documented NOLOGIN;
DROP ROLE documented;
\\connect - owner
-->

```sql
CREATE TABLE list (id int PRIMARY KEY);
INSERT INTO list VALUES (1), (2);
SELECT id, current_user FROM list ORDER BY id;
INSERT INTO list VALUES (2);
SELECT count(*) FROM list;
```

```text
 id | current_user
----+--------------
  1 | owner
  2 | owner
(2 rows)

ERROR:  duplicate key value violates unique constraint \"list_pkey\"
DETAIL:  Key (id)=(2) already exists.
 count
-------
     2
(1 row)
```
";
    assert_eq!(run(&db, page), Ok(()));
}

async fn a_wrong_page_is_noticed(db: Database) {
    let other = run(&db, "```sql\nSELECT 1 AS one;\n```\n```text\n one\n```\n").unwrap_err();
    assert!(other.contains(".md:1: this block prints something else"), "{other}");
    assert!(other.contains("+    1"), "{other}");
    let failing = run(&db, "\n```sql\nSELECT 1/0;\n```\n").unwrap_err();
    assert!(failing.contains(".md:2: this block fails\nERROR:  division by zero"), "{failing}");
    let hidden = run(&db, "<!-- setup\nSELECT 1/0;\n-->\n").unwrap_err();
    assert!(hidden.contains(".md:1: this block fails"), "{hidden}");
    let open = run(&db, "```sql\nSELECT 'x;\n```\n").unwrap_err();
    assert!(open.contains("a quote is not closed"), "{open}");
    let ended = run(&db, "```sql\n\\q\n```\n\n```sql\nSELECT 1;\n```\n").unwrap_err();
    assert!(ended.contains(".md:1: the session ended within this block"), "{ended}");
}
