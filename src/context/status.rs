//! What status() says: written for the person who asks why a table looks empty.

use super::state::{self, Absence};
use super::tenant::Tenant;
use crate::error::Result;
use crate::observe;
use crate::pg::library::{self, Loaded};
use crate::pg::settings::{self, ContextMode, MissingContext};
use crate::pg::{security, spi, transaction};
use crate::seal::{bypass, decision};

pub struct Line {
    pub item: &'static str,
    pub value: Option<String>,
    pub detail: Option<String>,
}

fn line(item: &'static str, value: impl Into<String>, detail: impl Into<String>) -> Line {
    Line { item, value: Some(value.into()), detail: Some(detail.into()) }
}

pub fn lines() -> Result<Vec<Line>> {
    let facts = Facts::read()?;
    let lines = [
        Some(tenant()),
        Some(source(&facts)),
        token(),
        Some(mode()),
        Some(missing()),
        Some(load_level()),
        Some(seal()),
        Some(row_security(&facts)),
        Some(exception()),
        observed(),
        Some(versions(&facts)),
    ];
    Ok(lines.into_iter().flatten().collect())
}

/// What only the catalogs know.
struct Facts {
    source: String,
    exempt: bool,
    extension: Option<String>,
}

impl Facts {
    fn read() -> Result<Facts> {
        let facts = spi::look(
            "SELECT s.source, r.rolsuper OR r.rolbypassrls,
                    (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'bulkhead')
               FROM pg_catalog.pg_settings s, pg_catalog.pg_roles r
              WHERE s.name OPERATOR(pg_catalog.=) 'bulkhead.tenant_context'
                AND r.rolname OPERATOR(pg_catalog.=) CURRENT_USER",
            &[],
            |row| Ok(Facts { source: row.get(1)?, exempt: row.get(2)?, extension: row.optional(3)? }),
        )?;
        Ok(facts.into_iter().next().unwrap_or(Facts { source: "unknown".to_owned(), exempt: false, extension: None }))
    }
}

fn tenant() -> Line {
    let id = state::with_tenant(|tenant: &Tenant| {
        let forms =
            [("uuid", tenant.uuid().is_some()), ("text", !tenant.is_none()), ("bigint", tenant.bigint().is_some())];
        let forms: Vec<&str> = forms.into_iter().filter(|(_, fits)| *fits).map(|(name, _)| name).collect();
        // What is returned here is UTF-8; in a database of another encoding only ASCII means the same in both.
        let shown = if tenant.id().is_ascii() || security::database_is_utf8() {
            String::from_utf8_lossy(tenant.id()).into_owned()
        } else {
            "(not ASCII: SHOW bulkhead.tenant_context)".to_owned()
        };
        (shown, forms.join(" and "))
    });
    match id {
        (id, forms) if !id.is_empty() => line("tenant", id, format!("fits tenant columns of type {forms}")),
        _ => none(match state::absence() {
            Some(Absence::OtherTenant) => "this transaction has acted for another tenant than the setting holds now",
            Some(Absence::Refused(_)) => "a token was refused, and what was set before it no longer counts",
            Some(Absence::Token(_)) => "the token does not count",
            Some(Absence::Unsigned) => "the id is not signed, and bulkhead.context_mode is signed",
            None => "protected tables show no rows. SET LOCAL bulkhead.tenant_context = '...' inside a transaction",
        }),
    }
}

fn none(why: &str) -> Line {
    Line { item: "tenant", value: None, detail: Some(format!("none: {why}")) }
}

/// Only where a token is, or was refused.
fn token() -> Option<Line> {
    match state::absence() {
        Some(Absence::Refused(fault)) => {
            return Some(line("token", format!("refused: {}", fault.message()), fault.hint()));
        }
        Some(Absence::Token(fault)) => {
            return Some(line("token", format!("does not count: {}", fault.message()), fault.hint()));
        }
        _ => {}
    }
    state::with_token(|token| {
        let token = token?;
        let kid = token.kid.as_deref().map_or("no kid".to_owned(), |kid| format!("kid {kid}"));
        let subject = match &token.subject {
            // As with the tenant's id: only ASCII means the same in every encoding.
            Some(subject) if subject.is_ascii() || security::database_is_utf8() => format!("subject {subject}"),
            Some(_) => "a subject that is not ASCII".to_owned(),
            None => "no subject".to_owned(),
        };
        let left = (token.expires.saturating_sub(transaction::start())) / 1_000_000;
        Some(line("token", "from a token", format!("{kid}; {subject}; expires {left} s after this transaction began")))
    })
}

fn source(facts: &Facts) -> Line {
    let detail = match facts.source.as_str() {
        "session" => "SET, SET LOCAL, set_config() or set_tenant() in this session",
        "client" => "a start-up option of this connection",
        "user" | "database" | "database user" | "global" => "ALTER ROLE ... SET or ALTER DATABASE ... SET",
        "configuration file" | "command line" => "the server's configuration",
        "default" if state::ended_with_its_transaction() => "a local context ended with its transaction: use BEGIN",
        "default" => "nothing has set it",
        _ => "see pg_settings",
    };
    line("source", facts.source.clone(), detail)
}

fn mode() -> Line {
    match settings::context_mode() {
        ContextMode::Open => line("mode", "open", "any tenant at any time"),
        ContextMode::Locked => {
            line("mode", "locked", format!("one tenant for each transaction; {}", state::describe_lock()))
        }
        ContextMode::Signed => line(
            "mode",
            "signed",
            format!("only verified tokens, one tenant for each transaction; {}", state::describe_lock()),
        ),
    }
}

fn missing() -> Line {
    match (library::preloaded(), settings::missing_context()) {
        (false, _) => line(
            "missing_context",
            "empty",
            "the library is not preloaded, so a statement without a tenant finds no rows",
        ),
        (true, MissingContext::Error) => line("missing_context", "error", "a statement without a tenant is refused"),
        (true, MissingContext::Empty) => line("missing_context", "empty", "a statement without a tenant finds no rows"),
    }
}

fn load_level() -> Line {
    match library::loaded() {
        Loaded::Shared => line("load_level", "shared", "shared_preload_libraries: in every process of the server"),
        Loaded::Session => line("load_level", "session", "session_preload_libraries: in ordinary sessions"),
        Loaded::OnFirstUse => line(
            "load_level",
            "on first use",
            "add bulkhead to shared_preload_libraries, and a forgotten tenant becomes an error",
        ),
    }
}

fn seal() -> Line {
    let (value, detail) = match (decision::in_force(), library::loaded()) {
        (true, Loaded::Shared) => ("on", "protected tables are filtered for every role, superusers too"),
        (true, _) => (
            "on",
            "protected tables are filtered for every role, but not in processes without session_preload_libraries",
        ),
        (false, Loaded::OnFirstUse) => {
            ("off", "the library is not preloaded, so superusers and BYPASSRLS roles are not filtered")
        }
        (false, _) if !settings::seal() => {
            ("off", "bulkhead.seal is off, so superusers and BYPASSRLS roles are not filtered")
        }
        (false, _) => ("off", "single-user mode"),
    };
    line("seal", value, detail)
}

fn row_security(facts: &Facts) -> Line {
    let (value, detail) = match (facts.exempt, decision::in_force()) {
        (false, _) => ("bound", "policies filter what this role sees and writes"),
        (true, true) if !bypass::acts() => {
            ("exempt", "this role is superuser or BYPASSRLS: policies do not bind it, the seal does")
        }
        (true, true) => {
            ("exempt", "this role is superuser or BYPASSRLS, and past the seal: it sees every tenant's rows")
        }
        (true, false) => ("exempt", "this role is superuser or BYPASSRLS: it sees every tenant's rows"),
    };
    line("row_security", value, detail)
}

/// The exception from the seal.
fn exception() -> Line {
    const ITEM: &str = "bypass";
    if !decision::in_force() {
        return line(ITEM, "none", "the seal is off, so there is nothing to bypass");
    }
    if bypass::acts() {
        let lasts = if bypass::is_of_session() {
            "the seal is lifted for this role in the whole session: a start-up option"
        } else {
            "the seal is lifted for this role until the transaction ends"
        };
        let reason = settings::bypass();
        // As for the tenant: in a database of another encoding only ASCII means the same.
        let readable = reason.is_ascii() || security::database_is_utf8();
        return line(ITEM, if readable { reason } else { "(not ASCII: SHOW bulkhead.bypass)".to_owned() }, lasts);
    }
    let detail = match (bypass::is_set(), bypass::may_begin()) {
        (true, _) => "one is set, but it acts only for the role that set it, and with EXECUTE on begin_bypass()",
        (false, true) => "this role may lift the seal for a transaction: SELECT bulkhead.begin_bypass('why')",
        (false, false) => "this role may not lift the seal: that needs EXECUTE on bulkhead.begin_bypass(text)",
    };
    line(ITEM, "none", detail)
}

/// Only where naked statements were counted.
fn observed() -> Option<Line> {
    let (taken, gave_way) = observe::places()?;
    let detail = match gave_way {
        0 => "statements on observed tables without a tenant, of all databases: bulkhead.naked_statements".to_owned(),
        _ => format!("full: {gave_way} statements gave their place to others since the server started"),
    };
    Some(line("naked_statements", format!("{taken} of {} places", observe::PLACES), detail))
}

fn versions(facts: &Facts) -> Line {
    let extension = facts.extension.as_deref().unwrap_or("not installed");
    let detail = if extension == library::VERSION {
        "the SQL objects and the library belong together".to_owned()
    } else {
        format!("the SQL objects are {extension}: ALTER EXTENSION bulkhead UPDATE, or install the matching library")
    };
    line("version", library::VERSION, detail)
}
