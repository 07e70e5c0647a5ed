//! Does what `shared` says: share() and the adoption of new children.

use pgrx::prelude::*;

use super::apply::{self, Busy};
use super::registry_rows::{self, Registered};
use super::shape::{self, Shape};
use super::shared;
use super::steps::Earlier;
use crate::error::Result;
use crate::observe;

pub fn share(relation: pg_sys::Oid) -> Result<Vec<String>> {
    apply::refuse_old_snapshot()?;
    shape::admit(relation)?;
    if shape::parent(relation)?.is_some() {
        return Err(apply::below_a_parent(relation));
    }
    let mut done = Vec::new();
    if registry_rows::find(relation)?.is_some_and(|registered| !registered.shared) {
        done = apply::take_off(relation)?;
    }
    observe::remove(&[relation])?;
    let _busy = Busy::begin();
    done.extend(declare(relation, false)?);
    Ok(done)
}

/// A child that appeared below a shared table.
pub fn adopt(child: pg_sys::Oid) -> Result<()> {
    let _busy = Busy::begin();
    shape::admit(child)?;
    declare(child, true).map(drop)
}

fn declare(root: pg_sys::Oid, inherited: bool) -> Result<Vec<String>> {
    let pending = |shape: &Shape| {
        Ok(!shared::share(&shape.name, &shape.facts).is_empty() || registry_rows::find(shape.oid)?.is_none())
    };
    let mut done = Vec::new();
    let mut any = false;
    for shape in shape::tree(root, "")? {
        any |= pending(&shape)?;
    }
    if !any {
        return Ok(done);
    }
    apply::lock(root)?;
    for shape in shape::tree(root, "")? {
        if pending(&shape)? {
            apply::run(&shape, &shared::share(&shape.name, &shape.facts), &mut done)?;
            let inherited = inherited || shape.oid != root;
            let earlier = Earlier::of(&shape.facts);
            registry_rows::record(
                shape.oid,
                0,
                &Registered { column: String::new(), shared: true, inherited, earlier },
            )?;
        }
    }
    Ok(done)
}
