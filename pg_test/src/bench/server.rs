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
    start_with(preload, &[])
}

/// The same with further lines of postgresql.conf; what a reader has to know of them belongs into the report's notes.
pub fn start_with(preload: Preload, settings: &[(&str, &str)]) -> Result<Cluster> {
    progress::stage("started a server to measure", || {
        let builder = Cluster::builder().preload(preload);
        let all = SETTINGS.iter().chain(settings);
        all.fold(builder, |builder, (name, value)| builder.setting(*name, *value)).start()
    })
}

/// What a reader needs to judge the figures.
#[derive(Debug, Clone)]
pub struct Conditions {
    pub server: String,
    pub processor: String,
    pub cores: usize,
    /// Processes that wanted to run in the minute before.
    pub load: f64,
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
            load: load(),
            settings: settings.join(", "),
            quick: options.quick,
        }
    }

    /// Others wanted more than half of the processors.
    pub fn is_busy(&self) -> bool {
        self.load > f64::from(u32::try_from(self.cores).unwrap_or(1)) / 2.0
    }

    /// In a few lines of text.
    pub fn describe(&self) -> String {
        let Conditions { server, processor, cores, load, settings, quick } = self;
        let mut text = format!("{server}; {processor}, {cores} cores, load before {load:.1}\n{settings}\n");
        if self.is_busy() {
            text +=
                "THE MACHINE WAS BUSY with other work: look at the intervals, and measure again when it is quiet.\n";
        }
        if *quick {
            text += "A QUICK RUN: it shows that the benchmark works; its figures mean nothing.\n";
        }
        text
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}
