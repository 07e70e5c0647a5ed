//! docs/clients.md and docs/migrations.md show their examples as they are: a line that is nothing but a link to a file, its
//! name as the text, is followed by a block with exactly that file's text. `BLESS=1` writes it.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::Trial;
use pg_test::root;

use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_pages_show_each_example_as_it_is, a_page_that_shows_something_else_is_noticed]
}

/// Lists of packages: pointed at, and not shown.
const NOT_SHOWN: [&str; 3] = ["package-lock.json", "package.json", "requirements.txt"];

async fn the_pages_show_each_example_as_it_is(_: Nowhere) {
    is_shown("clients.md", "examples/clients");
    is_shown("migrations.md", "examples/migrations");
}

fn is_shown(page: &str, examples: &str) {
    let docs = root().join("docs");
    let path = docs.join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (blessed, shown) = with_files(&text, &docs);
    let mut wanted = BTreeSet::new();
    files(&docs, examples, &mut wanted);
    wanted.retain(|file| !NOT_SHOWN.iter().any(|name| file.ends_with(name)));
    assert_eq!(shown, wanted, "{page} shows other files than there are");
    if pg_test::flag("BLESS") {
        std::fs::write(&path, &blessed).unwrap();
    } else {
        assert!(text == blessed, "{page} shows something else than the files (BLESS=1 writes them into it)");
    }
}

/// The page with each file's text in the block after its link, and the files.
fn with_files(page: &str, docs: &Path) -> (String, BTreeSet<String>) {
    let (mut written, mut shown) = (String::new(), BTreeSet::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        let Some(file) = link(line) else { continue };
        let fence = lines.by_ref().find(|line| !line.is_empty()).unwrap_or_default();
        assert!(fence.starts_with("```"), "no block follows the link to {file}");
        assert!(lines.by_ref().any(|line| line == "```"), "the block of {file} does not end");
        let text = std::fs::read_to_string(docs.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        written.push_str(&format!("\n{fence}\n{text}```\n"));
        shown.insert(file.to_owned());
    }
    (written, shown)
}

/// `[examples/x](examples/x)`, alone on its line.
fn link(line: &str) -> Option<&str> {
    let (name, target) = line.strip_prefix('[')?.strip_suffix(')')?.split_once("](")?;
    (name == target && name.starts_with("examples/")).then_some(name)
}

fn files(docs: &Path, dir: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(docs.join(dir)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{dir}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files(docs, &name, found);
        } else {
            found.insert(name);
        }
    }
}

async fn a_page_that_shows_something_else_is_noticed(_: Nowhere) {
    let docs = root().join("docs");
    let text = std::fs::read_to_string(docs.join("examples/clients/orders.sql")).unwrap();
    let page = |sql: &str| {
        format!("Before.\n\n[examples/clients/orders.sql](examples/clients/orders.sql)\n\n```sql\n{sql}```\n\nAfter.\n")
    };
    let (same, shown) = with_files(&page(&text), &docs);
    assert_eq!((same, shown.len()), (page(&text), 1));
    assert_eq!(with_files(&page("SELECT 1;\n"), &docs).0, page(&text));
}
