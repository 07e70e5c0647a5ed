//! The rule set that a statement is scored by, and compiled programs.
//!
//! Which version is active is looked up once for what a statement can see (`Moment`), and so is right whoever puts, activates or rolls back. A compiled program is found
//! by the digest of its rules: it cannot be old, nor another tenant's unless that one has the very same rules.

use std::cell::RefCell;
use std::rc::Rc;

use aws_lc_rs::digest;

use super::cache::{Cache, Digest};
use super::program::Program;
use super::{compile, refused, rules};
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::cell::PerBackend;
use crate::pg::scoring::{Moment, active};
use crate::pg::settings;

/// Bytes of compiled programs that a backend keeps: thousands of rule sets.
const MOST_KEPT: usize = 16 << 20;
/// Rule sets that are remembered as the active ones.
const REMEMBERED: usize = 8;

/// An active rule set.
pub struct Set {
    pub program: Rc<Program>,
    pub version: i32,
}

struct Known {
    moment: Moment,
    generation: u64,
    tenant: Vec<u8>,
    name: Vec<u8>,
    set: Rc<Set>,
}

static KNOWN: PerBackend<RefCell<Vec<Known>>> = PerBackend::new(RefCell::new(Vec::new()));
static PROGRAMS: PerBackend<RefCell<Option<Cache>>> = PerBackend::new(RefCell::new(None));
static LAST: PerBackend<RefCell<Last>> = PerBackend::new(RefCell::new(None));

type Last = Option<(Kind, Rc<Program>)>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One expression.
    Rule,
    /// What put_rule_set() takes.
    RuleSet,
}

/// The active rule set of a name for the running statement: the tenant's, or the shared one. Fixes the transaction's tenant, as reading its rows does.
#[inline]
pub fn current(name: &[u8]) -> Result<Rc<Set>> {
    let Some(moment) = Moment::now() else {
        return Err(error::internal("rules are asked for where nothing can be looked up"));
    };
    let generation = state::generation();
    if let Ok(known) = KNOWN.try_borrow()
        && let Some(known) =
            known.iter().find(|known| known.generation == generation && known.moment == moment && known.name == name)
    {
        return Ok(Rc::clone(&known.set));
    }
    look_up(moment, name)
}

#[cold]
fn look_up(moment: Moment, name: &[u8]) -> Result<Rc<Set>> {
    let tenant = state::with_tenant(|tenant| tenant.id().to_vec());
    if !tenant.is_empty() {
        state::touch();
    }
    let generation = state::generation();
    let mut known = KNOWN.borrow_mut();
    if let Some(known) = known.iter_mut().find(|k| k.moment == moment && k.name == name && k.tenant == tenant) {
        known.generation = generation;
        return Ok(Rc::clone(&known.set));
    }
    let of_tenant = (!tenant.is_empty()).then_some(&tenant[..]);
    let found = active(of_tenant, name, |active, read| {
        let program = keep(active.digest, || {
            let source = read();
            rules::rule_set(&source, u64::MAX).map_err(refused)
        })?;
        Ok(Rc::new(Set { program, version: active.version }))
    })?;
    let Some(set) = found else { return Err(unknown(name, tenant.is_empty())) };
    known.retain(|known| known.name != name || known.tenant != tenant);
    if known.len() >= REMEMBERED {
        known.remove(0);
    }
    known.push(Known { moment, generation, tenant, name: name.to_vec(), set: Rc::clone(&set) });
    Ok(set)
}

fn unknown(name: &[u8], naked: bool) -> pgrx::pg_sys::panic::ErrorReport {
    let name = super::ascii(&String::from_utf8_lossy(name));
    let detail = if naked {
        "No shared rule set has that name and an active version, and the current transaction acts for no tenant."
    } else {
        "Neither the tenant nor the shared rule sets have one of that name with an active version."
    };
    let hint = "SELECT name, version, active FROM bulkhead.rule_sets lists them; bulkhead.put_rule_set() makes one.";
    error::state(format!("there is no rule set \"{name}\""), detail, hint)
}

/// The program of a digest, compiled where it is not kept.
fn keep(digest: Digest, compile: impl FnOnce() -> Result<Program>) -> Result<Rc<Program>> {
    let mut programs = PROGRAMS.borrow_mut();
    let programs = programs.get_or_insert_with(|| Cache::new(MOST_KEPT));
    if let Some(program) = programs.get(&digest) {
        return Ok(program);
    }
    let program = Rc::new(compile()?);
    programs.put(digest, Rc::clone(&program));
    Ok(program)
}

/// A program that was not put: the same again and again, as a rule.
pub fn draft(source: &[u8], kind: Kind) -> Result<Rc<Program>> {
    if let Ok(last) = LAST.try_borrow()
        && let Some((of, program)) = last.as_ref()
        && *of == kind
        && *program.source == *source
    {
        return Ok(Rc::clone(program));
    }
    let most_cost = settings::score_budget_ops();
    let program = keep(digest_of(source, kind), || {
        match kind {
            Kind::Rule => compile::rule(source, most_cost),
            Kind::RuleSet => rules::rule_set(source, most_cost),
        }
        .map_err(refused)
    })?;
    LAST.replace(Some((kind, Rc::clone(&program))));
    Ok(program)
}

/// What programs are kept by. Rule sets have theirs in their row.
pub fn digest_of(source: &[u8], kind: Kind) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(match kind {
        Kind::Rule => b"rule",
        Kind::RuleSet => b"set:",
    });
    context.update(source);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
