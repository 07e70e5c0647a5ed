//! The private memory of a server process.

use anyhow::{Context, Result};

use crate::Client;

/// At one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Resident pages that belong to this process alone: what a leak makes grow, whoever allocated.
    pub private: u64,
    /// What the server's own memory contexts hold.
    pub contexts: u64,
}

/// Of the session's process; its role must be a member of `pg_read_all_stats`.
pub async fn of(session: &Client) -> Result<Memory> {
    let row = session
        .query_one("SELECT pg_backend_pid(), sum(total_bytes)::bigint FROM pg_backend_memory_contexts", &[])
        .await
        .context("reading pg_backend_memory_contexts")?;
    let process: i32 = row.try_get(0)?;
    let contexts: i64 = row.try_get(1)?;
    Ok(Memory { private: private(process)?, contexts: u64::try_from(contexts)? })
}

/// Resident pages of a server process that belong to it alone, in bytes.
pub fn private(process: i32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB")?.trim().parse().ok());
    let kilobytes: u64 = kilobytes.with_context(|| format!("{path} does not say RssAnon"))?;
    Ok(kilobytes * 1024)
}
