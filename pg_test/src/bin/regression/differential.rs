//! The core suite's files on a plain and on a sealed server, statement by statement: pg_test/src/differential.

use anyhow::{Context, Result, bail};
use pg_test::differential::{self, Difference, Options, Report, Twins};
use pg_test::{Cluster, progress, provision};

use crate::source::Source;
use crate::suites::{self, Setting};

/// In the order of the core suite's schedule, because files use what earlier ones made.
const FILES: [&str; 33] = [
    "test_setup",
    "create_misc",
    "create_index",
    "create_aggregate",
    "create_view",
    "select",
    "inherit",
    "select_into",
    "select_distinct",
    "select_distinct_on",
    "select_implicit",
    "select_having",
    "subselect",
    "union",
    "case",
    "join",
    "aggregates",
    "update",
    "delete",
    "matview",
    "rowsecurity",
    "groupingsets",
    "join_hash",
    "merge",
    "incremental_sort",
    "window",
    "limit",
    "returning",
    "with",
    "partition_join",
    "partition_prune",
    "partition_aggregate",
    "updatable_views",
];

/// What others need.
const FIRST: [&str; 4] = ["test_setup", "create_misc", "create_index", "create_aggregate"];

/// Differences that are none of the seal's, with the reason for each.
const EXPLAINED: &str = include_str!("explained.txt");

/// Run once more by the roles that they name, where policies of their own decide beside the seal.
const BY_ROLES: [&str; 2] = ["test_setup", "rowsecurity"];

/// `cargo run --bin regression -- differential [seal-off] [files]`. With the seal off it has to find differences, and then it succeeds.
pub fn run(arguments: &[String], source: &Source) -> Result<bool> {
    let seal_off = arguments.iter().any(|word| word == "seal-off");
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "seal-off").collect();
    if let Some(unknown) = wanted.iter().find(|file| !FILES.contains(file)) {
        bail!("{unknown} is none of {FILES:?}");
    }
    let is_wanted = |file: &&&str| wanted.is_empty() || wanted.contains(*file) || FIRST.contains(*file);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let plain = suites::server(Setting::Without)?;
    let mut builder = suites::builder(Setting::Preloaded);
    if seal_off {
        builder = builder.setting("bulkhead.seal", "off");
    }
    let sealed = builder.start()?;
    let shared = Shared::make(&plain, source)?;
    let mut all = Report::new("all files");
    for (superuser, files) in [(true, &FILES[..]), (false, &BY_ROLES[..])] {
        let files: Vec<&&str> = files.iter().filter(is_wanted).collect();
        if files.iter().all(|file| FIRST.contains(*file)) && !superuser {
            continue;
        }
        let name = if superuser { "as_superuser" } else { "by_roles" };
        runtime.block_on(async {
            let mut twins = Twins::make(&plain, &sealed, name, !superuser).await?;
            for file in files {
                let report = shared.run(&mut twins, file, superuser).await?;
                println!("{name} {report}");
                tell(&report, seal_off);
                all.add(report);
            }
            let tables = twins.coverage().await;
            println!("{name}: tables that are left: {}", counted(&tables));
            let having = |what: &str| tables.iter().filter(|table| *table == what).count();
            // What no canary stands in proves nothing.
            if having("with canaries") < 10 * having("without canaries") {
                bail!("{name}: one protected table in ten or more has rows and no canaries");
            }
            anyhow::Ok(())
        })?;
    }
    judge(&all, seal_off)
}

/// What differs in a file, but for what is explained.
fn tell(report: &Report, seal_off: bool) {
    let unexplained = report.different.iter().filter(|difference| !is_explained(difference));
    for difference in unexplained.take(if seal_off { 1 } else { usize::MAX }) {
        println!("{difference}");
    }
}

/// A line of explained.txt, `file: beginning of the statement`, is about it.
fn is_explained(difference: &Difference) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let statement = words(&difference.statement);
    EXPLAINED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .any(|(file, beginning)| file == difference.file && statement.starts_with(&words(beginning)))
}

fn judge(all: &Report, seal_off: bool) -> Result<bool> {
    let explained = all.different.iter().filter(|difference| is_explained(difference)).count();
    println!("{all}, {explained} of them explained");
    let tables: Vec<String> =
        all.not_adopted.iter().map(|line| line.split_once(": ").map_or("", |(_, why)| why).to_string()).collect();
    if !tables.is_empty() {
        println!("tables without the tenant column or protection: {}", counted(&tables));
    }
    if all.compared() == 0 {
        bail!("nothing was compared");
    }
    if all.tables_unknown * 100 > all.tables_equal {
        bail!("after {} statements the tables could not be compared", all.tables_unknown);
    }
    // Off, the seal has to be missed.
    Ok(if seal_off { all.different.len() > explained } else { all.different.len() == explained })
}

/// What both servers and this program read and write.
struct Shared {
    sources: std::path::PathBuf,
    options: Options,
}

impl Shared {
    fn make(cluster: &Cluster, source: &Source) -> Result<Self> {
        let home = cluster.dir().join("shared");
        let (sources, libraries, files) = (home.join("regress"), home.join("libraries"), home.join("files"));
        provision::copy_dir(&source.dir.join("src/test/regress"), &sources)?;
        provision::copy_dir(&source.libraries, &libraries)?;
        std::fs::create_dir_all(files.join("results"))?;
        cluster.give_to_server(&home)?;
        let environment = differential::environment(&sources, &libraries, &files);
        Ok(Self { sources, options: Options { environment, superuser: true, files } })
    }

    async fn run(&self, twins: &mut Twins, file: &str, superuser: bool) -> Result<Report> {
        let path = self.sources.join("sql").join(format!("{file}.sql"));
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let options =
            Options { environment: self.options.environment.clone(), superuser, files: self.options.files.clone() };
        let start = std::time::Instant::now();
        let report = differential::run(twins, file, &String::from_utf8_lossy(&text), &options).await?;
        progress::say(format!("compared {file} ({:.1} s)", start.elapsed().as_secs_f64()));
        Ok(report)
    }
}

/// `12 x, 3 y`
fn counted(words: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, u32>::new();
    words.iter().for_each(|word| *counts.entry(word).or_default() += 1);
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
