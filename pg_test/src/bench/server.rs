//! The server that is measured, and the machine it ran on.

use anyhow::Result;

use super::Options;
use crate::progress;
use crate::{Cluster, Preload};

/// What differs from a default server, and is shown with the results.
const SETTINGS: [(&str, &str); 7] = [
    // Tables are measured in memory: a table larger than a quarter of it would be read through a small ring instead.
    ("shared_buffers", "1GB"),
    ("fsync", "on"),
    ("autovacuum", "off"),
    // Its compilation takes longer than most of what is measured, and takes it from whichever side crosses a cost limit.
    ("jit", "off"),
    // No checkpoint in the middle of a measurement.
    ("checkpoint_timeout", "1h"),
    ("max_wal_size", "8GB"),
    ("max_parallel_workers", "8"),
];

/// A throwaway server to measure on.
pub fn start(preload: Preload) -> Result<Cluster> {
    progress::stage("started a server to measure", || {
        let builder = Cluster::builder().preload(preload);
        SETTINGS.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value)).start()
    })
}

/// What a reader needs to judge the figures.
#[derive(Debug, Clone)]
pub struct Conditions {
    pub server: String,
    pub processor: String,
    pub cores: usize,
    /// Processes that wanted to run before we began, in the last minute.
    pub load: String,
    pub settings: String,
    pub quick: bool,
}

impl Conditions {
    pub fn of(cluster: &Cluster, options: &Options) -> Conditions {
        let settings: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        Conditions {
            server: cluster.provision().postgres.version.clone(),
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: first_word("/proc/loadavg"),
            settings: settings.join(", "),
            quick: options.quick,
        }
    }

    /// In one or two lines of text.
    pub fn describe(&self) -> String {
        let Conditions { server, processor, cores, load, settings, .. } = self;
        format!("{server}; {processor}, {cores} cores, load before {load}\n{settings}")
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

fn first_word(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_string()
}
