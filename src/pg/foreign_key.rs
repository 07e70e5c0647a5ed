//! Whether a query is the server's own check of a new foreign key (RI_Initial_Check of ri_triggers.c): the orphans among all rows.
//!
//! Read from its tree and held against the constraints of the table, so that nothing else can be had in its name: it selects the columns
//! of a foreign key, LEFT JOINs the referenced table on exactly that key, by the constraint's operators, and asks which have no partner though
//! none of their columns is NULL (MATCH FULL: not all). Of a constraint that holds, or is about to, it shows nothing but what breaks it.
//! And like the server, only for a role that may read all rows of both.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::{list, relations, security};

/// A relation of the query: its number in the range table, and its oid.
#[derive(Clone, Copy)]
struct Side {
    number: i64,
    relation: pg_sys::Oid,
}

/// # Safety
/// `query` is valid.
pub unsafe fn is_initial_check(query: *const pg_sys::Query) -> bool {
    // SAFETY: the caller's promise; nodes have the type that their tag or their field says.
    unsafe {
        let Some((referencing, referenced)) = sides(query) else { return false };
        let [join] = list::cells((*(*query).jointree).fromlist) else { return false };
        let join = join.ptr_value.cast::<pg_sys::JoinExpr>();
        if (*join).type_ != pg_sys::NodeTag::T_JoinExpr
            || (*join).jointype != pg_sys::JoinType::JOIN_LEFT
            || !is_reference((*join).larg, referencing)
            || !is_reference((*join).rarg, referenced)
        {
            return false;
        }
        let Some(pairs) = pairs((*join).quals, referencing, referenced) else { return false };
        let targets = list::cells((*query).targetList);
        let selects_key = targets.len() == pairs.len()
            && targets.iter().zip(&pairs).all(|(cell, pair)| {
                let target = cell.ptr_value.cast::<pg_sys::TargetEntry>();
                column((*target).expr.cast()) == Some((referencing.number, pair.0))
            });
        let Some(test) = asks_for_orphans((*(*query).jointree).quals, referencing, referenced, &pairs) else {
            return false;
        };
        selects_key
            && may_read_all(referencing.relation)
            && may_read_all(referenced.relation)
            && relations::has_foreign_key(referencing.relation, referenced.relation, &pairs, test)
    }
}

/// As RI_Initial_Check asks before it makes the query. Forced row level security is what the check has to get past.
fn may_read_all(relation: pg_sys::Oid) -> bool {
    security::bypasses_rls(security::current_role())
        || !security::has_row_security(relation)
        || security::owns(relation)
}

/// Whether two tables stand under the aliases `fk` and `pk`, as in every query of that kind.
///
/// # Safety
/// `query` is valid.
pub unsafe fn joins_key_to_key(query: *const pg_sys::Query) -> bool {
    // SAFETY: the caller's promise.
    unsafe { sides(query) }.is_some()
}

/// # Safety
/// `query` is valid.
unsafe fn sides(query: *const pg_sys::Query) -> Option<(Side, Side)> {
    // SAFETY: the caller's promise; range table entries have a name each.
    unsafe {
        let plain = (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && !(*query).hasSubLinks
            && !(*query).hasAggs
            && !(*query).hasTargetSRFs
            && (*query).cteList.is_null()
            && (*query).setOperations.is_null();
        let entries = list::cells((*query).rtable);
        if !plain || entries.len() != 3 {
            return None;
        }
        let named = |name: &CStr| {
            entries.iter().enumerate().find_map(|(at, cell)| {
                let entry = cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
                let found = (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                    && !(*entry).alias.is_null()
                    && CStr::from_ptr((*(*entry).alias).aliasname) == name;
                found.then_some(Side { number: at as i64 + 1, relation: (*entry).relid })
            })
        };
        Some((named(c"fk")?, named(c"pk")?))
    }
}

/// # Safety
/// `node` is valid.
unsafe fn is_reference(node: *const pg_sys::Node, side: Side) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_RangeTblRef
            && i64::from((*node.cast::<pg_sys::RangeTblRef>()).rtindex) == side.number
    }
}

/// The range table number and the column of a plain column, through casts that change no value's meaning.
///
/// # Safety
/// `node` is NULL or a valid expression.
unsafe fn column(mut node: *const pg_sys::Node) -> Option<(i64, i16)> {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        loop {
            match node.as_ref()?.type_ {
                pg_sys::NodeTag::T_RelabelType => node = (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
                pg_sys::NodeTag::T_CollateExpr => node = (*node.cast::<pg_sys::CollateExpr>()).arg.cast(),
                // A cast between built-in types, such as from int4 to int8.
                pg_sys::NodeTag::T_FuncExpr => {
                    let call = node.cast::<pg_sys::FuncExpr>();
                    let [argument] = list::cells((*call).args) else { return None };
                    if (*call).funcid.to_u32() >= pg_sys::FirstNormalObjectId {
                        return None;
                    }
                    node = argument.ptr_value.cast();
                }
                pg_sys::NodeTag::T_Var => {
                    let found = node.cast::<pg_sys::Var>();
                    let number = i64::from((*found).varno);
                    return ((*found).varlevelsup == 0).then_some((number, (*found).varattno));
                }
                _ => return None,
            }
        }
    }
}

/// The parts of an expression that AND joins, or the expression itself.
///
/// # Safety
/// `node` is NULL or a valid expression.
unsafe fn parts(node: *mut pg_sys::Node, by: pg_sys::BoolExprType::Type) -> Vec<*mut pg_sys::Node> {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        let Some(head) = node.as_ref() else { return Vec::new() };
        let both = node.cast::<pg_sys::BoolExpr>();
        if head.type_ == pg_sys::NodeTag::T_BoolExpr && (*both).boolop == by {
            return list::cells((*both).args).iter().flat_map(|cell| parts(cell.ptr_value.cast(), by)).collect();
        }
        vec![node]
    }
}

/// A column of the referencing table, one of the referenced, and the operator between them.
pub type Pair = (i16, i16, pg_sys::Oid);

/// # Safety
/// `quals` is NULL or a valid expression.
unsafe fn pairs(quals: *mut pg_sys::Node, referencing: Side, referenced: Side) -> Option<Vec<Pair>> {
    // SAFETY: the caller's promise.
    unsafe {
        parts(quals, pg_sys::BoolExprType::AND_EXPR)
            .into_iter()
            .map(|part| {
                if (*part).type_ != pg_sys::NodeTag::T_OpExpr {
                    return None;
                }
                let equal = part.cast::<pg_sys::OpExpr>();
                let [left, right] = list::cells((*equal).args) else { return None };
                let (left, right) = (column(left.ptr_value.cast())?, column(right.ptr_value.cast())?);
                let fits = left.0 == referenced.number && right.0 == referencing.number;
                fits.then_some((right.1, left.1, (*equal).opno))
            })
            .collect()
    }
}

/// Which rows count as orphans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Those with a value in every column of the key: MATCH SIMPLE.
    Whole,
    /// Those with a value in any: MATCH FULL.
    Any,
}

/// `pk.a IS NULL AND (fk.b IS NOT NULL …)`: that the partner is missing, and that all, or any, of the columns have a value.
///
/// # Safety
/// `quals` is NULL or a valid expression.
unsafe fn asks_for_orphans(
    quals: *mut pg_sys::Node,
    referencing: Side,
    referenced: Side,
    pairs: &[Pair],
) -> Option<Orphans> {
    use pg_sys::BoolExprType::{AND_EXPR, OR_EXPR};
    // SAFETY: the caller's promise.
    unsafe {
        let (missing, present): (Vec<_>, Vec<_>) = parts(quals, AND_EXPR)
            .into_iter()
            .partition(|part| null_test(*part).is_some_and(|test| test.number == referenced.number));
        let [missing] = missing.as_slice() else { return None };
        let first = pairs.first()?;
        if null_test(*missing) != Some(NullTest { number: referenced.number, attribute: first.1, is_null: true }) {
            return None;
        }
        let (tests, orphans) = match present.as_slice() {
            [any] if pairs.len() > 1 => (parts(*any, OR_EXPR), Orphans::Any),
            _ => (present, Orphans::Whole),
        };
        let wanted = |pair: &Pair| NullTest { number: referencing.number, attribute: pair.0, is_null: false };
        let as_wanted = tests.len() == pairs.len()
            && tests.iter().zip(pairs).all(|(test, pair)| null_test(*test) == Some(wanted(pair)));
        as_wanted.then_some(orphans)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct NullTest {
    number: i64,
    attribute: i16,
    is_null: bool,
}

/// # Safety
/// `node` is a valid expression.
unsafe fn null_test(node: *const pg_sys::Node) -> Option<NullTest> {
    // SAFETY: the caller's promise; nodes have the type that their tag says.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_NullTest {
            return None;
        }
        let test = node.cast::<pg_sys::NullTest>();
        let (number, attribute) = column((*test).arg.cast())?;
        Some(NullTest { number, attribute, is_null: (*test).nulltesttype == pg_sys::NullTestType::IS_NULL })
    }
}
