//! What the catalogs do not know: how the library was loaded, which version it is, this session's tenant, the server's flaws.

use super::catalogue::OF_THE_LIBRARY;
use super::{Finding, Level, flaws};
use crate::context::state;
use crate::error::Result;
use crate::pg::library::{self, Loaded};
use crate::pg::spi;

pub fn findings() -> Result<Vec<Finding>> {
    let [preload, version, flaw, tenant] = OF_THE_LIBRARY.map(|rule| rule.name);
    let found = [(preload, preloaded()), (version, versions()?), (flaw, server()?), (tenant, session_tenant())];
    Ok(found.into_iter().filter_map(|(rule, found)| found.map(|found| found.named(rule))).collect())
}

struct Found {
    level: Level,
    object: String,
    detail: String,
    remedy: Option<String>,
}

impl Found {
    fn named(self, rule: &'static str) -> Finding {
        Finding { level: self.level, rule, object: self.object, detail: self.detail, remedy: self.remedy }
    }
}

fn preloaded() -> Option<Found> {
    let (level, detail) = match library::loaded() {
        Loaded::Shared => return None,
        Loaded::Session => (
            Level::Warning,
            "The library comes by session_preload_libraries, which superusers, background workers and replication do without. \
             Put bulkhead into shared_preload_libraries and restart.",
        ),
        Loaded::OnFirstUse => (
            Level::Error,
            "The library is not preloaded: a statement without a tenant finds no rows instead of failing, and nothing binds \
             superuser and BYPASSRLS roles. Put bulkhead into shared_preload_libraries and restart.",
        ),
    };
    Some(Found { level, object: "bulkhead".to_owned(), detail: detail.to_owned(), remedy: None })
}

fn versions() -> Result<Option<Found>> {
    let installed = spi::look(
        "SELECT extversion FROM pg_extension WHERE extname = 'bulkhead' AND extversion <> $1",
        &[library::VERSION.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(installed.into_iter().next().map(|installed| Found {
        level: Level::Error,
        object: "bulkhead".to_owned(),
        detail: format!("The SQL objects are of version {installed}, the library is {}.", library::VERSION),
        remedy: Some("ALTER EXTENSION bulkhead UPDATE".to_owned()),
    }))
}

fn server() -> Result<Option<Found>> {
    let version = spi::look("SELECT current_setting('server_version_num')::integer", &[], |row| row.get::<i32>(1))?;
    let version = version.first().copied().unwrap_or(0);
    let (flaws, fixed) = flaws::of(version);
    let Some(fixed) = fixed else { return Ok(None) };
    let flaws: Vec<String> = flaws.iter().map(|flaw| format!("{} ({})", flaw.cve, flaw.what)).collect();
    let (major, minor) = (version / 10_000, version % 10_000);
    Ok(Some(Found {
        level: Level::Warning,
        object: format!("PostgreSQL {major}.{minor}"),
        detail: format!(
            "Known ways round row level security that version {major}.{fixed} closes: {}. Update the server.",
            flaws.join("; ")
        ),
        remedy: None,
    }))
}

fn session_tenant() -> Option<Found> {
    state::is_of_the_session().then(|| Found {
        level: Level::Warning,
        object: "this session".to_owned(),
        detail: "It has a tenant that outlives the transaction. Behind a pooler in transaction mode the next client inherits \
                 it: use SET LOCAL, or set_tenant() inside each transaction."
            .to_owned(),
        remedy: Some("RESET bulkhead.tenant_context".to_owned()),
    })
}
