//! What tokens are judged by: the keys, and what their claims must say. All of it is a superuser's to set.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use super::refuse;
use crate::context::session_tokens;
use crate::context::token::path::Path;
use crate::context::token::{TokenRequirements, jwks};
use crate::pg::cell::PerBackend;
use crate::pg::security;

type Text = GucSetting<Option<CString>>;

static JWKS: Text = Text::new(Some(c""));
static ISSUER: Text = Text::new(Some(c""));
static AUDIENCE: Text = Text::new(Some(c""));
static LEEWAY: GucSetting<i32> = GucSetting::<i32>::new(30);
static TENANT_CLAIM: Text = Text::new(Some(c"tenant_id"));
static ROLES_CLAIM: Text = Text::new(Some(c"roles"));
static PERMISSIONS_CLAIM: Text = Text::new(Some(c"permissions"));

fn text(setting: &Text) -> String {
    setting.get().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

fn optional(setting: &Text) -> Option<String> {
    Some(text(setting)).filter(|text| !text.is_empty())
}

/// What the settings ask of a token now. The check hooks have let nothing through that does not parse; if it should not,
/// there are no keys, and no token counts.
pub fn token_requirements() -> TokenRequirements {
    TokenRequirements {
        keys: jwks::parse(&text(&JWKS)).unwrap_or_default(),
        issuer: optional(&ISSUER),
        audience: optional(&AUDIENCE),
        leeway: LEEWAY.get().unsigned_abs(),
        tenant: Path::parse(&text(&TENANT_CLAIM), false).unwrap_or_default(),
        roles: Path::parse(&text(&ROLES_CLAIM), true).unwrap_or_default(),
        permissions: Path::parse(&text(&PERMISSIONS_CLAIM), true).unwrap_or_default(),
        ascii_only: !security::database_is_utf8(),
    }
}

type Check = unsafe extern "C-unwind" fn(*mut *mut c_char, *mut *mut c_void, pg_sys::GucSource::Type) -> bool;
type Show = unsafe extern "C-unwind" fn() -> *const c_char;

/// # Safety
/// Once, from `define`, before `bulkhead.tenant_context`: a value set before the library was loaded may be a token.
pub(super) unsafe fn define() {
    let define = |name, about, details, setting, flags, check: Option<Check>, show: Option<Show>| {
        // SAFETY: the hooks are guarded, keep to the server's protocol, and live as long as the process.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                about,
                details,
                setting,
                GucContext::Suset,
                flags,
                check,
                Some(assign_text),
                show,
            );
        }
    };
    let plain = GucFlags::default();
    // No default: a key that came with the software would be everybody's.
    define(
        c"bulkhead.jwks",
        c"The keys that tokens are verified with: a JWK Set.",
        c"SHOW prints the kids only. A symmetric key belongs into a configuration file, where only superusers and the server read it.",
        &JWKS,
        GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
        Some(check_jwks),
        Some(show_jwks),
    );
    // Empty by default: a key set of one's own has one issuer. Set both where the issuer serves others too.
    define(
        c"bulkhead.jwt_issuer",
        c"Whose tokens count: what their claim iss must be.",
        c"Empty: any issuer that signs with a key of bulkhead.jwks.",
        &ISSUER,
        plain,
        None,
        None,
    );
    define(
        c"bulkhead.jwt_audience",
        c"For whom a token must be: what its claim aud must be or contain.",
        c"Empty: for anybody.",
        &AUDIENCE,
        plain,
        None,
        None,
    );
    // SAFETY: as above.
    unsafe {
        // Half a minute: what unsynchronised clocks differ by. It lets nothing live longer.
        GucRegistry::define_int_guc_with_hooks(
            c"bulkhead.jwt_leeway",
            c"By how much the issuer's clock may be ahead: for the claim nbf, never for exp.",
            c"",
            &LEEWAY,
            0,
            3600,
            GucContext::Suset,
            GucFlags::UNIT_S,
            None,
            Some(assign_number),
            None,
        );
    }
    define(
        c"bulkhead.tenant_claim",
        c"The claim that holds the tenant id, a path with dots.",
        c"For example app_metadata.org_id.",
        &TENANT_CLAIM,
        plain,
        Some(check_tenant_path),
        None,
    );
    define(
        c"bulkhead.roles_claim",
        c"The claim that holds the roles, a path with dots; {tenant} stands for the tenant id.",
        c"For example workspaces.{tenant}.roles.",
        &ROLES_CLAIM,
        plain,
        Some(check_path),
        None,
    );
    define(
        c"bulkhead.permissions_claim",
        c"The claim that holds the permissions, a path with dots; {tenant} stands for the tenant id.",
        c"For example scope.",
        &PERMISSIONS_CLAIM,
        plain,
        Some(check_path),
        None,
    );
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn assign_text(_newval: *const c_char, _extra: *mut c_void) {
    // What the new value says is read when the next token comes: the server stores it after this call.
    session_tokens::settings_changed();
}

/// # Safety
/// Called by the server. Must not raise.
#[pg_guard]
unsafe extern "C-unwind" fn assign_number(_newval: i32, _extra: *mut c_void) {
    session_tokens::settings_changed();
}

/// # Safety
/// `newval` points to a string or to NULL.
unsafe fn new_text<'a>(newval: *mut *mut c_char) -> &'a CStr {
    // SAFETY: the caller's promise; the server keeps the string until the check is over.
    unsafe { if (*newval).is_null() { c"" } else { CStr::from_ptr(*newval) } }
}

/// # Safety
/// Called by the server with valid pointers.
#[pg_guard]
unsafe extern "C-unwind" fn check_jwks(
    newval: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    use pg_sys::GucSource::*;
    const BAD: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;
    // SAFETY: see above.
    let text = unsafe { new_text(newval) }.to_string_lossy();
    let keys = match jwks::parse(&text) {
        Ok(keys) => keys,
        Err(fault) => {
            let message = format!("invalid value for bulkhead.jwks: {fault}");
            return refuse(
                BAD,
                &message,
                None,
                "Give the JWK Set of your issuer: {\"keys\": [...]}, public keys as a rule.",
            );
        }
    };
    // Those settings are in a catalog that everybody can read.
    let in_catalog = [PGC_S_TEST, PGC_S_GLOBAL, PGC_S_DATABASE, PGC_S_USER, PGC_S_DATABASE_USER].contains(&source);
    if in_catalog && keys.iter().any(jwks::Key::is_secret) {
        return refuse(
            BAD,
            "invalid value for bulkhead.jwks: a symmetric key cannot be set for a role or database",
            Some("Everybody can read those settings in pg_db_role_setting, and sign with the key."),
            "Put it into postgresql.conf or use ALTER SYSTEM; or sign with a key pair: ES256, EdDSA or RS256.",
        );
    }
    true
}

/// # Safety
/// Called by the server; the result is good until the next call.
#[pg_guard]
unsafe extern "C-unwind" fn show_jwks() -> *const c_char {
    static SHOWN: PerBackend<RefCell<Option<CString>>> = PerBackend::new(RefCell::new(None));
    let keys = jwks::parse(&text(&JWKS)).unwrap_or_default();
    let names: Vec<&str> = keys.iter().map(|key| key.kid.as_deref().unwrap_or("(no kid)")).collect();
    // A kid is printable ASCII, so no NUL cuts the list short.
    SHOWN.borrow_mut().insert(CString::new(names.join(", ")).unwrap_or_default()).as_ptr()
}

/// # Safety
/// Called by the server with valid pointers.
#[pg_guard]
unsafe extern "C-unwind" fn check_tenant_path(
    newval: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above.
    refuse_bad_path(unsafe { new_text(newval) }, false)
}

/// # Safety
/// Called by the server with valid pointers.
#[pg_guard]
unsafe extern "C-unwind" fn check_path(
    newval: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above.
    refuse_bad_path(unsafe { new_text(newval) }, true)
}

fn refuse_bad_path(text: &CStr, with_tenant: bool) -> bool {
    match Path::parse(&text.to_string_lossy(), with_tenant) {
        Ok(_) => true,
        Err(fault) => refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!("invalid path of a claim: {fault}"),
            None,
            "Give the names on the way to the claim, with dots between: app_metadata.org_id.",
        ),
    }
}
