//! What goes on behind the clients: drains, scoring of new rows, and maintain() with partitions that expire all the time.

use std::time::Duration;

use tokio::task::JoinSet;

use super::session::{Failure, Place, Session, Way};
use super::{TENANTS, World};

/// The first day of the partitions that have expired.
pub const LONG_AGO: &str = "2001-01-01";

pub(super) fn start(world: &World, sessions: &mut JoinSet<()>) {
    let nobody = |role| world.session(Place { role, tenant: "", way: Way::Direct });
    sessions.spawn(call(world.clone(), nobody("postgres"), "CALL bulkhead.drain_inventory('stock', 20)", |book| {
        &mut book.drained
    }));
    sessions.spawn(call(world.clone(), nobody("postgres"), "CALL bulkhead.score_pending('leads', 50)", |book| {
        &mut book.scored
    }));
    sessions.spawn(call(world.clone(), nobody("postgres"), "CALL bulkhead.maintain()", |book| &mut book.maintained));
    sessions.spawn(expire(world.clone(), nobody("owner")));
    for tenant in TENANTS {
        sessions.spawn(leads(world.clone(), world.session(Place { role: "app", tenant, way: Way::Pooled })));
    }
}

/// The procedure again and again; it commits by itself.
async fn call(
    world: World,
    mut session: Session,
    procedure: &'static str,
    count: fn(&mut super::ledger::Book) -> &mut u64,
) {
    loop {
        {
            let _turn = world.gate.read().await;
            match session.ask(procedure).await {
                Ok(_) => *count(&mut world.ledger.book()) += 1,
                Err(Failure::Gone) => world.ledger.gone(),
                Err(Failure::Refused(state, message)) => world.ledger.fault(format!("{procedure}: {state} {message}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// A day of long ago gets two rows, and the present day one, so that the data says as well what time it is.
async fn expire(world: World, mut session: Session) {
    for number in 0_u64.. {
        let _turn = world.gate.read().await;
        let attach = format!(
            "BEGIN; CREATE TABLE ticks_{number} (LIKE ticks);
             INSERT INTO ticks_{number} SELECT timestamptz '{LONG_AGO} 12:00+00' + {number} * interval '24 hours', 'tick {number} ' || n FROM generate_series(1, 2) n;
             DO $$ BEGIN EXECUTE format('ALTER TABLE ticks ATTACH PARTITION ticks_{number} FOR VALUES FROM (%L) TO (%L)',
                 timestamptz '{LONG_AGO} 00:00+00' + {number} * interval '24 hours', timestamptz '{LONG_AGO} 00:00+00' + {next} * interval '24 hours'); END $$;
             INSERT INTO ticks (id) VALUES ('now {number}'); COMMIT",
            next = number + 1
        );
        match session.ask(&attach).await {
            Ok(_) => world.ledger.book().expired.push(number),
            Err(Failure::Gone) => world.ledger.gone(),
            Err(Failure::Refused(state, message)) => {
                world.ledger.fault(format!("attaching a partition: {state} {message}"))
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn leads(world: World, mut session: Session) {
    let tenant = session.place.tenant;
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let id = format!("lead {number}");
        let insert = format!("INSERT INTO leads (id, document) VALUES ('{id}', '{{\"n\": {number}}}')");
        match session.transaction(&insert).await {
            Ok(_) => world.ledger.book().leads.push((tenant, id)),
            Err(Failure::Gone) => world.ledger.gone(),
            Err(Failure::Refused(state, message)) => {
                world.ledger.fault(format!("a lead was refused: {state} {message}"))
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
