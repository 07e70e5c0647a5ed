//! What is printed, and what makes the run a failure.

use std::sync::Arc;

use pg_test::Cluster;

use crate::differential::Outcome;
use crate::smith::Memory;
use crate::watch::Watch;

/// What a server says when one of its processes goes down, or when something that cannot be is so.
const CRASHES: [&str; 4] = ["PANIC:", "TRAP:", "was terminated by signal", "Assertion"];

pub fn crashes(log: &str) -> Vec<String> {
    log.lines().filter(|line| CRASHES.iter().any(|sign| line.contains(sign))).map(String::from).collect()
}

pub fn role(watch: &Arc<Watch>, memory: &[(String, Memory)]) {
    let found = watch.found();
    println!(
        "{}: {} queries, {} succeeded with {} rows, {} excluded; {} bytes searched, {} canaries",
        watch.role, found.queries, found.succeeded, found.rows, found.excluded, found.bytes, found.canaries
    );
    let errors: Vec<String> = found.errors.iter().map(|(state, count)| format!("{state} {count}")).collect();
    println!("  errors: {}", errors.join(", "));
    let mut refused: Vec<_> = found.refused.iter().collect();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (message, count) in refused.iter().take(6) {
        println!("  refused {count} times: {message}");
    }
    for (title, memory) in memory {
        println!(
            "  memory of a server process ({title}): {} kB first, {} kB at most, {} kB last",
            memory.first, memory.most, memory.last
        );
    }
}

/// Whether nothing is wrong.
pub fn all(cluster: &Cluster, roles: &[Arc<Watch>], crashes: &[String], compared: &Outcome) -> bool {
    let mut faults = Vec::new();
    for watch in roles {
        let found = watch.found();
        for leak in &found.leaks {
            faults.push(format!(
                "{}: a canary ({}) in {:?}\nfrom\n{}",
                watch.role, leak.needle, leak.message, leak.query
            ));
        }
        for query in &found.lost {
            faults.push(format!("{}: the server hung up on\n{query}", watch.role));
        }
        for (message, internal) in &found.internal {
            // Of the server's own sources such errors are known; of ours they are bugs.
            match internal.file.ends_with(".rs") {
                true => faults.push(format!(
                    "{}: XX000 of ours, {} times: {message}\nfrom\n{}",
                    watch.role, internal.count, internal.query
                )),
                false => println!("{}: XX000 from {}, {} times: {message}", watch.role, internal.file, internal.count),
            }
        }
    }
    faults.extend(crashes.iter().map(|line| format!("the server's log: {line}")));
    faults.extend(compared.different.iter().map(|query| format!("sealed and plain differ: {query}")));
    println!(
        "compared with the plain twins: {} replayed, {} the same ({} with rows, {} rows), {} not stable, {} different",
        compared.replayed,
        compared.same,
        compared.with_rows,
        compared.rows,
        compared.unstable,
        compared.different.len()
    );
    println!("past the seal {} of {} of the same queries with rows differ", compared.noticed, compared.past_the_seal);
    faults.extend(
        compared.unproved.iter().map(|fault| format!("the comparison was not shown to be able to fail: {fault}")),
    );
    if compared.with_rows == 0 {
        faults.push("no query with rows was compared".into());
    }
    // Of a few each one may be about something else.
    if compared.noticed == 0 && compared.past_the_seal >= 20 {
        faults.push("foreign rows make no difference to the queries that are compared".into());
    }
    let total: u64 = roles.iter().map(|watch| watch.found().queries).sum();
    println!("{}; {total} queries, {} faults", cluster.provision().postgres.version, faults.len());
    for fault in &faults {
        println!("\n{fault}");
    }
    faults.is_empty()
}
