//! Roles and rights: who is the owner, whom row level security binds, and acting as the extension's owner.

use pgrx::prelude::*;

use super::{relations, scan, settings};
use crate::error::{self, Result};

unsafe extern "C-unwind" {
    /// Without the guard that pgrx puts around its binding: it reads a variable, raises nothing, and every statement asks.
    #[link_name = "GetUserId"]
    safe fn get_user_id() -> pg_sys::Oid;
}

pub fn current_role() -> pg_sys::Oid {
    get_user_id()
}

/// 22023 for no relation: dropped, perhaps, while it was waited for.
pub fn require_relation(relation: pg_sys::Oid) -> Result<()> {
    if exists(relation) {
        return Ok(());
    }
    Err(error::argument(format!("there is no relation with oid {}", relation.to_u32()), "Name a table."))
}

/// 42501 for who is neither owner of the table, nor a member of that role, nor superuser; 22023 for no relation. `why`: the detail.
pub fn require_owner(relation: pg_sys::Oid, why: &str) -> Result<()> {
    require_relation(relation)?;
    if owns(relation) {
        return Ok(());
    }
    Err(error::denied(
        format!("must be owner of table {}", relation_name(relation)),
        why,
        "Call the function as the owner, or have the owner call it.",
    ))
}

/// Whether the current role owns the relation, is a member of the role that does, or is superuser.
pub fn owns(relation: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups with plain oids.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_class_ownercheck(relation, current_role());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, current_role());
    }
}

/// How row level security treats a role's statement on a relation, in the present security context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rls {
    /// Policies filter it.
    Binds,
    /// They do not, and never do for this role: superuser, BYPASSRLS, or the table has no row level security.
    Exempt,
    /// They do not for now: the owner inside referential integrity.
    Suspended,
}

pub fn rls(relation: pg_sys::Oid, role: pg_sys::Oid) -> Rls {
    // SAFETY: catalog look-ups with plain oids; with noError it raises nothing for lack of rights.
    match unsafe { pg_sys::check_enable_rls(relation, role, true) } as u32 {
        pg_sys::CheckEnableRlsResult::RLS_ENABLED => Rls::Binds,
        pg_sys::CheckEnableRlsResult::RLS_NONE_ENV if super::nesting::unforced() => Rls::Suspended,
        _ => Rls::Exempt,
    }
}

/// Whether the current role may see what others did to a relation: its owner, or a member of pg_read_all_stats.
pub fn may_look_at(relation: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups with plain oids; a relation that is gone has no owner any more.
    unsafe {
        pg_sys::get_rel_relkind(relation) != 0
            && (owns(relation)
                || pg_sys::has_privs_of_role(current_role(), pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS)))
    }
}

pub fn database() -> u32 {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// Superuser or BYPASSRLS.
pub fn bypasses_rls(role: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::has_bypassrls_privilege(role) }
}

/// Whether the current role has all these rights (ACL_SELECT and its like) to the whole table.
pub fn may_use_table(relation: pg_sys::Oid, rights: u32) -> bool {
    let (rights, all) = (rights as pg_sys::AclMode, pg_sys::AclMaskHow::ACLMASK_ALL);
    // SAFETY: catalog look-ups with plain oids.
    unsafe { pg_sys::pg_class_aclmask(relation, current_role(), rights, all) == rights }
}

/// Whether the current role has the right (ACL_SELECT and its like) to the column, or to the whole table.
pub fn may_use_column(relation: pg_sys::Oid, column: i16, right: u32) -> bool {
    let right = right as pg_sys::AclMode;
    // SAFETY: catalog look-ups with plain oids.
    unsafe {
        pg_sys::pg_class_aclcheck(relation, current_role(), right) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(relation, column, current_role(), right) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the current role may call the function.
pub fn may_execute(function: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up with plain oids.
    let answer = unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let answer = pg_sys::pg_proc_aclcheck(function, current_role(), pg_sys::ACL_EXECUTE as pg_sys::AclMode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let answer = pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            function,
            current_role(),
            pg_sys::ACL_EXECUTE as pg_sys::AclMode,
        );
        answer
    };
    answer == pg_sys::AclResult::ACLCHECK_OK
}

pub fn database_is_utf8() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// The type below a domain, or below a domain over a domain; the type itself when it is none.
pub fn base_type(type_oid: pg_sys::Oid) -> u32 {
    // SAFETY: a syscache look-up with a type that exists.
    unsafe { pg_sys::getBaseType(type_oid).to_u32() }
}

/// Puts the former role back on every path.
struct Restore {
    role: pg_sys::Oid,
    context: i32,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: puts back what GetUserIdAndSecContext returned in this transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}

/// Runs `work` as `role`, restricted: it cannot change settings' roles back, and the former role returns on every path.
fn act_as<R>(role: Option<pg_sys::Oid>, work: impl FnOnce() -> R) -> R {
    act_in(role, 0, work)
}

/// The same, with more of the security context's flags.
fn act_in<R>(role: Option<pg_sys::Oid>, flags: u32, work: impl FnOnce() -> R) -> R {
    let mut former = Restore { role: pg_sys::InvalidOid, context: 0 };
    // SAFETY: plain values; the former role and context are put back by the guard on every path.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut former.role, &mut former.context);
        pg_sys::SetUserIdAndSecContext(
            role.unwrap_or(former.role),
            former.context
                | (flags | pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
        );
    }
    let result = work();
    drop(former);
    result
}

/// Runs `work` as the extension's owner: only for reading and writing the extension's own tables. Nothing of a user's may run inside; so names are those of
/// pg_catalog, whatever the caller's search_path is: types and tables of pg_temp would be found first, and a domain's CHECK is code.
pub fn as_extension<R>(work: impl FnOnce() -> R) -> R {
    settings::kept(|| {
        settings::pin_search_path();
        act_as(relation_owner(scan::protection_table()), work)
    })
}

/// Runs `work` as the table's owner, whoever calls: what a user's table may run gets no more rights than its owner has. Settings that it
/// changes are put back: a search_path must not outlive it into what runs as another.
pub fn as_owner<R>(relation: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    settings::kept(|| act_as(relation_owner(relation), work))
}

/// The same with forced row level security off, as referential integrity asks: it sees every row. For one query on that table alone.
pub fn as_unforced_owner<R>(relation: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    settings::kept(|| act_in(relation_owner(relation), pg_sys::SECURITY_NOFORCE_RLS, work))
}

/// Every cached plan of the relation, in every session, is made again once this transaction has committed.
pub fn forget_plans(relation: pg_sys::Oid) {
    // SAFETY: queues an invalidation message for an existing relation.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// Runs `work` as any role, restricted: for leak_test(), which only a superuser may call. Not SET ROLE, which a function of a policy's could
/// undo.
pub fn as_role<R>(role: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    settings::kept(|| act_as(Some(role), work))
}

/// Whether the current role is superuser.
pub fn is_superuser() -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::superuser() }
}

/// Locks a relation and all that inherit from it against everybody, by oid: a name could come to mean another one
/// before it is locked. Held until the transaction ends.
pub fn lock_tree(relation: pg_sys::Oid) {
    // SAFETY: locks by oid; whether the relations still exist is looked up afterwards.
    unsafe {
        pg_sys::LockRelationOid(relation, pg_sys::AccessExclusiveLock as i32);
        relations::family(relation, pg_sys::AccessExclusiveLock as i32);
    }
}

/// Whether the transaction sees one snapshot throughout, and so not what others committed since.
pub fn has_transaction_snapshot() -> bool {
    // SAFETY: reads a variable of the server's.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The server replays another's log, and nothing can be written.
pub fn is_standby() -> bool {
    // SAFETY: reads the state of recovery.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// What others committed shows in the server's own look-ups from now on, without a lock being taken.
pub fn catch_up() {
    // SAFETY: runs the invalidation callbacks, as taking any lock does.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Whether a relation of this oid exists.
pub fn exists(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_relkind(relation) != 0 }
}

pub fn relation_owner(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    class_field(relation, pg_sys::Anum_pg_class_relowner)
}

/// Row level security is enabled, forced or not.
pub fn has_row_security(relation: pg_sys::Oid) -> bool {
    class_field(relation, pg_sys::Anum_pg_class_relrowsecurity) == Some(true)
}

/// Whether anything may inherit from the relation; false when it is gone.
pub fn has_had_children(relation: pg_sys::Oid) -> bool {
    class_field(relation, pg_sys::Anum_pg_class_relhassubclass) == Some(true)
}

/// A partitioned table, which holds no rows of its own.
pub fn is_partitioned(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_relkind(relation) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
}

/// A column of the relation's row in pg_class; none when the relation is gone.
fn class_field<T: FromDatum>(relation: pg_sys::Oid, column: u32) -> Option<T> {
    // SAFETY: a syscache look-up that is released after the one field, passed by value, was copied.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, relation.into());
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let field = pg_sys::SysCacheGetAttr(cache, tuple, column as i16, &mut is_null);
        pg_sys::ReleaseSysCache(tuple);
        T::from_datum(field, is_null)
    }
}

/// `schema.name`, quoted as SQL needs it; the oid in digits when the relation is gone.
pub fn relation_name(relation: pg_sys::Oid) -> String {
    // SAFETY: look-ups in the system caches; the names are palloc'd or NULL, and quoting copies them.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            return relation.to_u32().to_string();
        }
        std::ffi::CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, name)).to_string_lossy().into_owned()
    }
}

/// The language SQL; pg_language.dat fixes its oid.
const SQL: u32 = 14;

/// Whether a function is written in SQL.
pub fn is_sql_function(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up that is released after the one field, passed by value, was copied.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            return false;
        }
        let mut is_null = false;
        let language = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_proc_prolang as i16, &mut is_null);
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::Oid::from_datum(language, is_null).is_some_and(|language| language.to_u32() == SQL)
    }
}
