//! Rows of protected tables: written, added to, and read by every kind of role, who may see no row of another tenant.

use std::time::Duration;

use tokio::task::JoinSet;

use super::session::{Failure, Place, Session, Way};
use super::{TENANTS, World};

pub(super) fn start(world: &World, sessions: &mut JoinSet<()>) {
    for (number, tenant) in TENANTS.into_iter().enumerate() {
        let way = [Way::Direct, Way::Pooled, Way::Token][number];
        sessions.spawn(write(world.clone(), Place { role: ["app", "svc", "app"][number], tenant, way }, number));
    }
    for place in readers() {
        sessions.spawn(read(world.clone(), place));
    }
}

/// Every kind of role, for each tenant.
fn readers() -> impl Iterator<Item = Place> {
    const ROLES: [(&str, Way); 4] =
        [("app", Way::Token), ("svc", Way::Pooled), ("postgres", Way::Direct), ("owner", Way::Pooled)];
    TENANTS.into_iter().flat_map(|tenant| ROLES.map(|(role, way)| Place { role, tenant, way }))
}

/// A new row, whose text names its tenant, and one more in the tenant's counter.
async fn write(world: World, place: Place, writer: usize) {
    let tenant = place.tenant;
    let mut session = world.session(place);
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let id = format!("note {writer} {number}");
        let insert = format!("INSERT INTO notes (id, body) VALUES ('{id}', 'of {tenant}, {number}')");
        match session.transaction(&insert).await {
            Ok(_) => world.ledger.book().rows.push((tenant, id)),
            Err(Failure::Gone) => {
                world.ledger.gone();
                if world.ledger.too_early {
                    world.ledger.book().rows.push((tenant, id));
                }
            }
            Err(Failure::Refused(state, message)) => {
                world.ledger.fault(format!("a row was refused: {state} {message}"))
            }
        }
        let added = session.transaction("UPDATE counters SET n = n + 1").await;
        let mut book = world.ledger.book();
        let (acknowledged, unknown) = book.added.entry(tenant).or_default();
        match added {
            Ok(_) => *acknowledged += 1,
            Err(Failure::Gone) => *unknown += 1,
            Err(Failure::Refused(state, message)) => {
                drop(book);
                world.ledger.fault(format!("an addition was refused: {state} {message}"));
            }
        }
    }
}

async fn read(world: World, place: Place) {
    let mut session = world.session(place);
    loop {
        {
            let _turn = world.gate.read().await;
            look(&world, &mut session).await;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Every reader once.
pub(super) async fn look_again(world: &World) {
    for place in readers() {
        look(world, &mut world.session(place)).await;
    }
}

async fn look(world: &World, session: &mut Session) {
    const READ: &str = "SELECT tenant_id, body FROM notes ORDER BY md5(id) LIMIT 50";
    const JOIN: &str =
        "SELECT l.tenant_id, 'of ' || s.tenant_id || ', ' FROM leads l JOIN stock s ON s.sku <> l.id LIMIT 50";
    let (role, tenant) = (session.place.role, session.place.tenant);
    for ask in [READ, JOIN] {
        match session.transaction(ask).await {
            Ok(rows) => {
                world.ledger.book().read += rows.len() as u64;
                let own = format!("of {tenant}, ");
                if let Some(foreign) = rows.iter().find(|row| row[0] != tenant || !row[1].starts_with(&own)) {
                    world.ledger.fault(format!("{role} read a foreign row for {tenant}: {foreign:?}"));
                }
            }
            Err(Failure::Gone) => world.ledger.gone(),
            Err(Failure::Refused(state, message)) => {
                world.ledger.fault(format!("{role} could not read: {state} {message}"))
            }
        }
    }
}
