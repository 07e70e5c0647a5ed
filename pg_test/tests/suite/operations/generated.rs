//! Parts of the documentation that are what the code says: compared, or written with `BLESS=1`.

use std::sync::Mutex;

use super::fixture::root;

/// Two tests may write the same page.
static WRITING: Mutex<()> = Mutex::new(());

/// A page of the documentation, whole.
pub fn page(name: &str) -> String {
    let path = root().join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page between `<!-- generated: part -->` and `<!-- end of part -->` is `text`.
pub fn is(name: &str, part: &str, text: &str) {
    let _alone = WRITING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let page = page(name);
    let (begin, end) = (format!("<!-- generated: {part} -->"), format!("<!-- end of {part} -->"));
    let from = page.find(&begin).unwrap_or_else(|| panic!("docs/{name} has no {begin}")) + begin.len();
    let to = from + page[from..].find(&end).unwrap_or_else(|| panic!("docs/{name} has no {end}"));
    let wanted = format!("\n\n{}\n\n", text.trim());
    if page[from..to] == wanted {
        return;
    }
    if pg_test::flag("BLESS") {
        let written = format!("{}{wanted}{}", &page[..from], &page[to..]);
        std::fs::write(root().join("docs").join(name), written).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (there, wanted) = (lines(&page[from..to]), lines(&wanted));
    let stale: Vec<_> = there.iter().filter(|line| !wanted.contains(line)).collect();
    let new: Vec<_> = wanted.iter().filter(|line| !there.contains(line)).collect();
    panic!(
        "docs/{name}, {part}: BLESS=1 writes what the code says now\nin the page: {stale:#?}\nin the code: {new:#?}"
    );
}

/// A row of a table in Markdown.
pub fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | ").trim_end())
}
