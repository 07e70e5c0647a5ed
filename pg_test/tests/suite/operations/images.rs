//! Dockerfile, compose.yaml and the manifest: nothing here builds an image, so what can be checked without is.

use libtest_mimic::Trial;
use pg_test::provision::{self, For};
use pg_test::{Cluster, Preload};

use super::fixture::root;
use crate::harness::{Nowhere, Skip};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_the_dockerfile_copies_is_there,
        its_versions_are_the_workspaces,
        the_settings_of_compose_start_a_server => 240,
        the_manifest_preloads_it,
    ]
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The instructions of a Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let lines: Vec<String> =
        file("Dockerfile").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

async fn what_the_dockerfile_copies_is_there(db: pg_test::Database) {
    let provision = db.cluster.provision();
    let major = provision.postgres.major.to_string();
    let ignored = file(".dockerignore");
    let (mut sources, mut built) = (0, 0);
    for instruction in instructions() {
        let Some(arguments) = instruction.strip_prefix("COPY ") else { continue };
        let mut words: Vec<&str> = arguments.split(' ').collect();
        words.pop();
        if let Some(from) = words[0].strip_prefix("--from=") {
            if from == "build" {
                // What cargo-pgrx packs here lies as it does there.
                let path = words[1].replace("${PG_MAJOR}", &major);
                let path = path.strip_prefix("/package").expect("a path of the package");
                let is_there = provision.extension.files.iter().any(|(file, _)| file.starts_with(path));
                assert!(is_there, "cargo-pgrx packs nothing in {path}");
                built += 1;
            }
            continue;
        }
        for source in words {
            assert!(root().join(source).exists(), "the Dockerfile copies {source}, which is not there");
            assert!(!ignored.lines().any(|line| line == source), ".dockerignore leaves out {source}");
            sources += 1;
        }
    }
    assert!(sources >= 7 && built == 4, "{sources} {built}");
    // Whatever the build reads is copied: the workspace's members, and what the sources include.
    let copied = instructions().join("\n");
    for needed in ["Cargo.lock", "pg_test pg_test", "sql sql", "src src", ".cargo .cargo", "bulkhead.control"] {
        assert!(copied.contains(needed), "{needed}");
    }
}

async fn its_versions_are_the_workspaces(_: Nowhere) {
    let (docker, cargo) = (instructions().join("\n"), file("Cargo.toml"));
    let value = |key: &str| {
        let line =
            cargo.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("Cargo.toml has no {key}"));
        line.split('"').nth(1).unwrap().to_owned()
    };
    assert!(docker.contains(&format!("FROM rust:{}-", value("rust-version"))), "{docker}");
    assert!(docker.contains(&format!("cargo install cargo-pgrx --version {} --locked", value("pgrx ="))), "{docker}");
    for major in 14..=18 {
        assert!(cargo.contains(&format!("pg{major} = ")), "no feature for {major}");
    }
    let default = docker.lines().find_map(|line| line.strip_prefix("ARG PG_MAJOR=")).unwrap();
    assert!(cargo.contains(&format!("pg{default} = ")));
    assert!(file("compose.yaml").contains(&format!("PG_MAJOR: \"{default}\"")));
}

/// What follows `- -c` in compose.yaml.
fn settings() -> Vec<(String, String)> {
    let text = file("compose.yaml");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let values = lines.windows(2).filter(|pair| pair[0] == "- -c").map(|pair| pair[1].trim_start_matches("- "));
    values
        .map(|setting| setting.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect()
}

async fn the_settings_of_compose_start_a_server(_: Nowhere) -> Result<(), Skip> {
    if !provision::provision(For::Tests).unwrap().pg_cron {
        return Err(Skip("pg_cron is not installed".into()));
    }
    let mut builder = Cluster::builder().preload(Preload::None);
    let settings = settings();
    assert!(settings.len() >= 3, "{settings:?}");
    for (name, value) in &settings {
        builder = builder.setting(name, value);
    }
    let cluster = builder.start().unwrap();
    cluster.admin("postgres", "CREATE DATABASE app").unwrap();
    // pg_cron looks for its database when it starts.
    cluster.restart().unwrap();
    let script = file("docker/create-extension.sql");
    cluster.admin("app", &script).unwrap();
    // As the image's entrypoint does once the data directory is made.
    cluster.restart().unwrap();
    for (name, value) in &settings {
        let shown = cluster.admin("app", &format!("SHOW {name}")).unwrap();
        assert_eq!(shown.trim(), value, "{name}");
    }
    let jobs = cluster.admin("app", "SELECT count(*) FROM cron.job WHERE command ILIKE '%bulkhead.maintain%'").unwrap();
    assert_eq!(jobs.trim(), "1");
    let ill = "SELECT check_name FROM bulkhead.health() WHERE NOT ok AND check_name NOT IN ('cron_success', 'oldest_snapshot')";
    assert_eq!(cluster.admin("app", ill).unwrap().trim(), "");
    Ok(())
}

async fn the_manifest_preloads_it(_: Nowhere) {
    let manifest = file("docker/cloudnative-pg.yaml");
    for needed in ["shared_preload_libraries:\n      - bulkhead\n", "- CREATE EXTENSION bulkhead", "- name: bulkhead\n"]
    {
        assert!(manifest.contains(needed), "{needed}");
    }
    assert!(file("Dockerfile").contains("AS extension"));
}
