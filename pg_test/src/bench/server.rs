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

/// So much of a processor goes to this program, and to a server that has just started.
const QUIET: f64 = 0.2;

/// Looks, of two seconds each, before a machine is called busy.
const PATIENCE: u32 = 15;

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
    /// How many of the processors others used right before.
    pub busy: f64,
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
            busy: busy_when_quiet(),
            settings: settings.join(", "),
            quick: options.quick,
        }
    }

    /// Others used more of the processors than a machine does that has nothing to do.
    pub fn is_busy(&self) -> bool {
        self.busy > QUIET
    }

    /// In a few lines of text.
    pub fn describe(&self) -> String {
        let Conditions { server, processor, cores, busy, settings, quick } = self;
        let mut text = format!("{server}; {processor}, {cores} cores, {busy:.1} of them busy before\n{settings}\n");
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

/// How many processors are busy while this one looks. What was done right before, such as compiling, gets a moment to end.
fn busy_when_quiet() -> f64 {
    let look = || {
        let before = processor_time();
        std::thread::sleep(std::time::Duration::from_secs(2));
        let (before, after) = (before?, processor_time()?);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Some((after.0 - before.0) / (after.1 - before.1) * f64::from(u32::try_from(cores).ok()?))
    };
    let mut busy = f64::NAN;
    for _ in 0..PATIENCE {
        busy = look().unwrap_or(f64::NAN);
        if busy <= QUIET {
            break;
        }
    }
    busy
}

/// What all processors did since the machine started: with work, or taken away by its host; and in all. In the kernel's ticks.
fn processor_time() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are in the first two already.
    let ticks: Vec<f64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_part_of_all_time() {
        let (busy, all) = processor_time().unwrap();
        assert!(busy > 0.0 && busy < all, "{busy} of {all}");
    }
}
