//! Registered tables: what a batch has to know of one, kept until anything about it changes.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::item::{Item, ItemType};
use crate::context::state;
use crate::context::tenant::Tenant;
use crate::error::{self, Result};
use crate::pg::cell::PerBackend;
use crate::pg::inventory::registered;
use crate::pg::prepared::PreparedStatement;
use crate::pg::registry::{self, Border};
use crate::pg::{columns, items, relation_locks, scan, security, settings, spi, version, watch};
use crate::rls::key::Key;
use crate::type_oid;

/// A registered table.
pub struct Inventory {
    pub relation: pg_sys::Oid,
    /// What its orders' digests begin with: another with another item or tenant column, and the same after a dump and restore.
    pub identity: [u8; 16],
    pub item_type: ItemType,
    pub item_column: i16,
    pub quantity_column: i16,
    pub tenant: Option<Key>,
    /// 0 where there is none.
    pub tenant_column: i16,
    /// Locks the rows of some items in key order, and reads them.
    pub lock: Statement,
    /// The same, but for rows that another transaction has locked.
    pub lock_free: Statement,
    /// Reads the rows of some items.
    pub look: Statement,
    /// Locks the row of an item, or raises 55P03.
    pub prove: Statement,
    /// Takes quantities from items.
    pub update: Statement,
    /// Reads which of some items are there, whoever may see them: as the table's owner, who is not bound by its policies.
    sql_of_hidden: String,
}

/// A statement on some items of the table, and the same on one, whose plan neither sorts nor joins. Each is planned when it is run first: who only asks another
/// process to run it takes no locks for it.
pub struct Statement {
    relation: pg_sys::Oid,
    of_one: Planned,
    of_many: Planned,
}

struct Planned {
    sql: String,
    plan: OnceCell<PreparedStatement>,
}

impl Statement {
    fn new(relation: pg_sys::Oid, of_one: String, of_many: String) -> Statement {
        let [of_one, of_many] = [of_one, of_many].map(|sql| Planned { sql, plan: OnceCell::new() });
        Statement { relation, of_one, of_many }
    }

    /// The plan for so many items, whose array is the first parameter; the second is the array of their quantities.
    pub fn plan(&self, item_type: ItemType, items: usize) -> Result<&PreparedStatement> {
        let planned = if items == 1 { &self.of_one } else { &self.of_many };
        if planned.plan.get().is_none() {
            let types = [items::array_type(item_type), pg_sys::INT8ARRAYOID];
            // Nobody else can have set it: a backend is one thread, and planning this runs nothing that would.
            let _ = planned.plan.set(PreparedStatement::prepare(&planned.sql, &types, self.relation)?);
        }
        planned.plan.get().ok_or_else(|| error::internal("a statement was not planned"))
    }
}

impl Inventory {
    /// Which of these items are there, of the tenant that the call acts for, also those that policies keep from the role: as the database prints them, in UTF-8.
    pub fn hidden(&self, items: &[&Item]) -> Result<Vec<Vec<u8>>> {
        let wanted = [items::parameter(self.item_type, items)];
        security::as_unforced_owner(self.relation, || {
            settings::pin_search_path();
            // Not a kept plan: the server would take it for one that policies filter.
            spi::rows(&self.sql_of_hidden, &wanted, |row| row.get(1))
        })
    }

    /// Queued when the table was registered as something else: with another item column, for tenants by another column or of another type, or for none. It is
    /// nobody's now: two tenants' orders for what has become one row would not even know of each other in a batch.
    pub fn is_stray(&self, identity: [u8; 16], tenant: &[u8]) -> bool {
        identity != self.identity
            || match self.tenant {
                None => !tenant.is_empty(),
                Some(key) => !Tenant::parse(&mut tenant.to_vec()).is_ok_and(|tenant| key.fits(&tenant)),
            }
    }
}

type Known = HashMap<u32, Rc<Inventory>>;

static KNOWN: PerBackend<RefCell<Option<Known>>> = PerBackend::new(RefCell::new(None));
/// The number of changes that `watch` had heard of when they were read.
static READ_AT: PerBackend<Cell<u64>> = PerBackend::new(Cell::new(0));

/// The table's argument, which must not be NULL: 22023.
pub fn given(relation: Option<pg_sys::Oid>) -> Result<pg_sys::Oid> {
    relation.ok_or_else(|| error::argument("relation must not be NULL", "Give the registered table."))
}

/// The registered table for a call of the current role, which has to have the rights of an UPDATE, locked against DDL until the transaction ends: ROW
/// EXCLUSIVE, or ACCESS SHARE where nothing of it will be written.
///
/// Errors: 55000 not registered, or not as it was when it was registered; 42501 no rights.
pub fn for_caller(relation: pg_sys::Oid, writes: bool) -> Result<Rc<Inventory>> {
    let inventory = inventory(relation)?;
    check_rights(&inventory)?;
    // Not before: who may not write must not stand in the way of an index that is being made.
    if writes {
        relation_locks::relation_for_statement(relation, true);
    }
    Ok(inventory)
}

/// The registered table, whoever asks, under ACCESS SHARE.
///
/// Errors: 55000 not registered, or not as it was when it was registered.
pub fn inventory(relation: pg_sys::Oid) -> Result<Rc<Inventory>> {
    version::require()?;
    relation_locks::relation_for_statement(relation, false);
    if let Some(known) = known(relation) {
        return Ok(known);
    }
    let is_new = !watch::is_on(relation);
    // Reading may bring in a message that makes what was read old again.
    for _ in 0..8 {
        watch::on(&[relation, scan::table(c"inventory")]);
        if READ_AT.get() != watch::changes() {
            READ_AT.set(watch::changes());
            KNOWN.replace(None);
        }
        if let Some(known) = known(relation) {
            return Ok(known);
        }
        let read = match read(relation) {
            Ok(read) => Rc::new(read),
            Err(report) => {
                // Anybody may ask about any number; and about one that others watch.
                if is_new {
                    watch::off(relation);
                }
                return Err(report);
            }
        };
        if READ_AT.get() == watch::changes() {
            KNOWN.borrow_mut().get_or_insert_default().insert(relation.to_u32(), Rc::clone(&read));
            return Ok(read);
        }
    }
    Err(error::internal(format!("{} keeps changing", security::relation_name(relation))))
}

/// The table as it was read, if nothing that was read has changed since: both it and the list of inventories are watched from then on.
fn known(relation: pg_sys::Oid) -> Option<Rc<Inventory>> {
    let is_fresh = READ_AT.get() == watch::changes();
    KNOWN.borrow().as_ref().filter(|_| is_fresh)?.get(&relation.to_u32()).map(Rc::clone)
}

/// The tenant that a call acts for: empty for a table without tenants.
///
/// Errors: 42501 no tenant, or one that cannot stand in the tenant column.
pub fn tenant(inventory: &Inventory) -> Result<Vec<u8>> {
    let Some(key) = inventory.tenant else { return Ok(Vec::new()) };
    let tenant = state::with_tenant(|tenant| key.fits(tenant).then(|| tenant.id().to_vec()));
    let Some(tenant) = tenant else {
        let table = security::relation_name(inventory.relation);
        return Err(error::no_tenant(&format!("inventory {table}"), false));
    };
    state::touch();
    Ok(tenant)
}

/// Whoever asks about orders, or queues them, has to have the rights that a decrement needs.
///
/// Errors: 42501.
fn check_rights(inventory: &Inventory) -> Result<()> {
    let may = |column: i16, right: u32| security::may_use_column(inventory.relation, column, right);
    if security::may_use_table(inventory.relation, pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE)
        || may(inventory.item_column, pg_sys::ACL_SELECT)
            && may(inventory.quantity_column, pg_sys::ACL_SELECT)
            && may(inventory.quantity_column, pg_sys::ACL_UPDATE)
            && (inventory.tenant_column == 0 || may(inventory.tenant_column, pg_sys::ACL_SELECT))
    {
        return Ok(());
    }
    let table = security::relation_name(inventory.relation);
    Err(error::denied(
        format!("permission denied for inventory {table}"),
        if inventory.tenant_column == 0 {
            "Orders need SELECT on the item column, and SELECT and UPDATE on the quantity column."
        } else {
            "Orders need SELECT on the item column, SELECT on the tenant column, and SELECT and UPDATE on the quantity column."
        },
        format!("GRANT SELECT, UPDATE ON {table} TO the role."),
    ))
}

fn read(relation: pg_sys::Oid) -> Result<Inventory> {
    let table = security::relation_name(relation);
    let Some(registered) = registered(relation) else {
        return Err(error::state(
            format!("{table} is not registered as an inventory"),
            "bulkhead.register_inventory() was not called for it.",
            format!(
                "SELECT bulkhead.register_inventory('{table}'), naming the columns of the item and of the quantity."
            ),
        ));
    };
    let is_at_home = registered.home == scan::home();
    // A restored table numbers its columns anew.
    let number = |(number, name): (i16, String)| if is_at_home { number } else { columns::number(relation, &name) };
    let former = registered.tenant.as_ref().map(|(_, name)| spi::identifier(name));
    let [item, quantity] = registered.columns.map(number);
    let tenant = border(relation)?;
    if tenant.as_ref().map(|tenant| tenant.number) != registered.tenant.map(number) {
        return Err(error::state(
            match former {
                Some(column) => format!("{table} was registered as an inventory with the tenant column {column}"),
                None => format!("{table} was registered as an inventory without a tenant column"),
            },
            "protect() or unprotect() changed that since, and orders from before would not be known again, or be another tenant's.",
            format!(
                "When no order from before can come back: SELECT bulkhead.register_inventory('{table}'), with its columns, begins anew."
            ),
        ));
    }
    let shape = shape(relation, item, quantity)?;
    let ([lock_free, lock, prove, look, update], sql_of_hidden) = statements(relation, &table, &shape, tenant.as_ref());
    Ok(Inventory {
        relation,
        identity: registered.identity,
        item_type: shape.item_type,
        item_column: item,
        quantity_column: quantity,
        tenant_column: tenant.as_ref().map_or(0, |tenant| tenant.number),
        tenant: tenant.map(|tenant| tenant.key),
        lock,
        lock_free,
        look,
        prove,
        update,
        sql_of_hidden,
    })
}

/// The tenant column of a table.
pub struct TenantColumn {
    pub key: Key,
    pub number: i16,
    /// Quoted.
    pub name: String,
}

/// The tenant column, if the table has one.
///
/// Errors: 55000 for a table whose rows are kept apart by what the stored verdicts know nothing of.
pub fn border(relation: pg_sys::Oid) -> Result<Option<TenantColumn>> {
    let table = security::relation_name(relation);
    let refuse = |detail: &str, hint: String| {
        Err(error::state(format!("{table} cannot be an inventory as it is"), detail, hint))
    };
    let found = registry::find(relation);
    match found.map(|entry| (entry.border, entry.column)) {
        Some((Border::Column(key), number)) => {
            Ok(Some(TenantColumn { key, number, name: columns::name(relation, number) }))
        }
        Some((Border::Shared, _)) => refuse(
            "It was declared with share(), and no tenant writes it.",
            format!("SELECT bulkhead.unprotect('{table}'); and protect() it, if it has a tenant column."),
        ),
        Some((Border::Lost, _)) => {
            refuse("It is protected, and its tenant column is gone.", "SELECT * FROM bulkhead.lint();".to_owned())
        }
        Some((Border::Observed(_) | Border::Exposing, _)) | None if security::has_row_security(relation) => refuse(
            "It has row level security that protect() did not make, and verdicts would not be kept apart as its rows are.",
            format!("SELECT bulkhead.protect('{table}'), with its tenant column."),
        ),
        _ => Ok(None),
    }
}

/// What the columns are.
pub struct Shape {
    pub item_type: ItemType,
    /// Quoted.
    item: String,
    quantity: String,
    quantity_type: &'static str,
}

/// Looks at the columns. Errors: 55000, 22023 for columns that cannot be.
pub fn shape(relation: pg_sys::Oid, item: i16, quantity: i16) -> Result<Shape> {
    let table = security::relation_name(relation);
    if item <= 0 || quantity <= 0 || item == quantity {
        return Err(gone(&table));
    }
    let unfit = |column: i16, types: &str| {
        let name = columns::name(relation, column);
        error::argument(format!("column {name} of {table} is of a type that it cannot be"), types.to_owned())
    };
    let types = [item, quantity].map(|column| columns::type_of(relation, column));
    if types.contains(&pg_sys::InvalidOid) {
        return Err(gone(&table));
    }
    let [base_of_item, base_of_quantity] = types.map(security::base_type);
    let item_type =
        ItemType::of(base_of_item).filter(|_| columns::is_deterministic(relation, item)).ok_or_else(|| {
            unfit(item, "An item is a uuid, a text (of a deterministic collation), an integer or a bigint.")
        })?;
    let quantity_type = match base_of_quantity {
        type_oid::INT8 => "pg_catalog.int8",
        type_oid::INT2 => "pg_catalog.int2",
        type_oid::INT4 => "pg_catalog.int4",
        _ => return Err(unfit(quantity, "A quantity is a bigint, an integer or a smallint.")),
    };
    Ok(Shape {
        item_type,
        item: columns::name(relation, item),
        quantity: columns::name(relation, quantity),
        quantity_type,
    })
}

fn gone(table: &str) -> pgrx::pg_sys::panic::ErrorReport {
    error::state(
        format!("the item column or the quantity column of {table} is gone"),
        "They were there when it was registered as an inventory.",
        format!("SELECT bulkhead.register_inventory('{table}'), with its columns."),
    )
}

/// The statements on a user's table. Qualified throughout: they run with the caller's search_path. The tenant is compared here as well, for
/// roles that no policy binds where the seal is not in force.
fn statements(
    relation: pg_sys::Oid,
    table: &str,
    shape: &Shape,
    tenant: Option<&TenantColumn>,
) -> ([Statement; 5], String) {
    let Shape { item, quantity, quantity_type, item_type } = shape;
    let of_tenant = tenant.map_or_else(String::new, |TenantColumn { key, name, .. }| {
        format!(" AND t.{name} OPERATOR(pg_catalog.=) {}", key.accessor())
    });
    let rows = format!(
        "SELECT t.{item}::{}, t.{quantity}::pg_catalog.int8 FROM {table} t WHERE t.{item} OPERATOR(pg_catalog.=)",
        item_type.sql_name()
    );
    let (one, many) = (format!("{rows} ($1)[1]{of_tenant}"), format!("{rows} ANY ($1){of_tenant}"));
    let lock = |how: &str| {
        let of_many = format!("{many} ORDER BY t.{item} FOR NO KEY UPDATE{how}");
        Statement::new(relation, format!("{one} FOR NO KEY UPDATE{how}"), of_many)
    };
    let set = format!("UPDATE {table} t SET {quantity} = (t.{quantity}::pg_catalog.int8 OPERATOR(pg_catalog.-)");
    let update = Statement::new(
        relation,
        format!("{set} ($2)[1])::{quantity_type} WHERE t.{item} OPERATOR(pg_catalog.=) ($1)[1]{of_tenant}"),
        format!(
            "{set} taken.quantity)::{quantity_type}
               FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS taken (item, quantity)
              WHERE t.{item} OPERATOR(pg_catalog.=) taken.item{of_tenant}"
        ),
    );
    let hidden = format!(
        "SELECT pg_catalog.convert_to(t.{item}::pg_catalog.text, 'UTF8') FROM {table} t WHERE t.{item} OPERATOR(pg_catalog.=) ANY ($1){of_tenant}"
    );
    ([lock(" SKIP LOCKED"), lock(""), lock(" NOWAIT"), Statement::new(relation, one, many), update], hidden)
}
