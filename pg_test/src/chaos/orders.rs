//! Orders: decided in batches, by group commits, and through the queue.

use tokio::task::JoinSet;

use super::session::{Failure, Place, Rows, Session, Way};
use super::{TENANTS, World};

const ITEMS: [&str; 3] = ["a", "b", "few"];

pub(super) fn start(world: &World, sessions: &mut JoinSet<()>) {
    for (number, tenant) in TENANTS.into_iter().enumerate() {
        for way in [Way::Direct, Way::Pooled] {
            let place = Place { role: ["app", "svc"][number % 2], tenant, way };
            let label = format!("{number}{}", if way == Way::Pooled { "p" } else { "d" });
            sessions.spawn(decide(world.clone(), place.clone(), format!("batch {label}")));
            sessions.spawn(decide_now(world.clone(), place.clone(), format!("now {label}")));
        }
        let place = Place { role: "app", tenant, way: Way::Pooled };
        sessions.spawn(queue(world.clone(), place, format!("queued {number}")));
    }
}

/// Two orders a call, the second of two lines; asked again, with the same ids, until there is an answer.
async fn decide(world: World, place: Place, label: String) {
    let mut session = world.session(place);
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let item = ITEMS[number % 3];
        let ask = format!(
            "SELECT order_id, concat(item, ' ', verdict, ' ', remaining) FROM bulkhead.decrement_inventory('stock',
               ARRAY['{label} {number} x', '{label} {number} y', '{label} {number} y'], ARRAY['{item}', 'a', 'b'], ARRAY[1, 2, 1]::bigint[])"
        );
        tell(&world, &mut session, &ask, &[format!("{label} {number} x"), format!("{label} {number} y")]).await;
    }
}

async fn decide_now(world: World, place: Place, label: String) {
    let mut session = world.session(place);
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let (order, item) = (format!("{label} {number}"), ITEMS[number % 3]);
        let ask = format!(
            "SELECT order_id, concat(item, ' ', verdict, ' ', remaining) FROM bulkhead.decrement_now('stock', '{order}', '{item}', 1)"
        );
        tell(&world, &mut session, &ask, &[order]).await;
    }
}

async fn tell(world: &World, session: &mut Session, ask: &str, orders: &[String]) {
    let tenant = session.place.tenant;
    if world.ledger.too_early {
        let told = orders.iter().map(|order| ((tenant, order.clone()), "any".to_string()));
        world.ledger.book().orders.extend(told);
    }
    loop {
        match session.transaction(ask).await {
            // Not yet; the same order again.
            Ok(rows) if rows.iter().any(|row| row[1].contains(" pending ")) => {}
            Ok(rows) => {
                if !world.ledger.too_early {
                    note(world, tenant, &rows);
                }
                return;
            }
            Err(Failure::Gone) => {
                world.ledger.gone();
                if world.ledger.too_early {
                    return;
                }
            }
            // Two batches decided at once: the other one won.
            Err(Failure::Refused(state, _)) if state == "40001" => {}
            Err(Failure::Refused(state, message)) => {
                return world.ledger.fault(format!("an order was refused: {state} {message}"));
            }
        }
    }
}

/// The lines of an order follow each other.
fn note(world: &World, tenant: &'static str, rows: &Rows) {
    let mut book = world.ledger.book();
    for lines in rows.chunk_by(|one, other| one[0] == other[0]) {
        let told: Vec<&str> = lines.iter().map(|line| line[1].as_str()).collect();
        book.orders.push(((tenant, lines[0][0].clone()), told.join(", ")));
    }
}

async fn queue(world: World, place: Place, label: String) {
    let mut session = world.session(place);
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let name = (session.place.tenant, format!("{label} {number}"));
        let ask = format!("SELECT bulkhead.enqueue_decrement('stock', '{}', 'b', 1)", name.1);
        if world.ledger.too_early {
            world.ledger.book().queued.push(name.clone());
        }
        match session.transaction(&ask).await {
            Ok(_) if world.ledger.too_early => {}
            Ok(_) => world.ledger.book().queued.push(name),
            Err(Failure::Gone) => world.ledger.gone(),
            Err(Failure::Refused(state, message)) => {
                world.ledger.fault(format!("an order was not queued: {state} {message}"))
            }
        }
        // Others want to be served as well.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
