//! Requests with idempotency keys, each of which three sessions get: one does the work, the others are told.

use tokio::task::JoinSet;

use super::session::{Failure, Place, Session, Way};
use super::{TENANTS, World};

pub(super) fn start(world: &World, sessions: &mut JoinSet<()>) {
    for tenant in &TENANTS[..2] {
        for (number, way) in [Way::Direct, Way::Pooled, Way::Token].into_iter().enumerate() {
            let place = Place { role: "app", tenant, way };
            sessions.spawn(work(world.clone(), place, format!("session {number}")));
        }
    }
}

async fn work(world: World, place: Place, by: String) {
    let mut session = world.session(place);
    for number in 0_usize.. {
        let _turn = world.gate.read().await;
        let name = format!("request {number}");
        match number % 2 {
            0 => at_once(&world, &mut session, &name, &by).await,
            _ => in_steps(&world, &mut session, &name, &by).await,
        }
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
}

pub(super) async fn again(world: &World, tenant: &'static str, key: &str, by: &str) {
    let mut session = world.session(Place { role: "app", tenant, way: Way::Direct });
    in_steps(world, &mut session, key, by).await;
}

/// Claim, work and answer in one transaction.
async fn at_once(world: &World, session: &mut Session, key: &str, by: &str) {
    let work = format!(
        "DO $$ BEGIN
           IF (SELECT state FROM bulkhead.idempotency_claim('{key}', NULL, '1 hour')) <> 'started' THEN RAISE 'not mine'; END IF;
           INSERT INTO done (key, by) VALUES ('{key}', '{by}');
           PERFORM bulkhead.idempotency_complete('{key}', 200, '\"{by}\"'); END $$"
    );
    let name = (session.place.tenant, key.to_string());
    match session.transaction(&work).await {
        Ok(_) => {
            world.ledger.claimed(name.clone(), by);
            world.ledger.completed(name, by);
        }
        Err(Failure::Gone) => {
            world.ledger.gone();
            if world.ledger.too_early {
                world.ledger.completed(name, by);
            }
        }
        Err(Failure::Refused(_, message)) if message.starts_with("not mine") => {}
        Err(Failure::Refused(state, message)) => {
            world.ledger.fault(format!("a request was refused: {state} {message}"))
        }
    }
}

/// Claim; then work and answer, as often as it takes.
async fn in_steps(world: &World, session: &mut Session, key: &str, by: &str) {
    let name = (session.place.tenant, key.to_string());
    let claim = format!("SELECT state, fence FROM bulkhead.idempotency_claim('{key}', NULL, '1 hour')");
    let fence = match session.transaction(&claim).await {
        Ok(rows) if rows[0][0] == "started" => rows[0][1].clone(),
        Ok(_) => return,
        // It may be ours; then it is nobody's until its lease is over.
        Err(Failure::Gone) => return world.ledger.gone(),
        Err(Failure::Refused(state, message)) => {
            return world.ledger.fault(format!("a claim was refused: {state} {message}"));
        }
    };
    world.ledger.claimed(name.clone(), by);
    let finish = format!(
        "INSERT INTO done (key, by) VALUES ('{key}', '{by}'); SELECT bulkhead.idempotency_complete('{key}', 200, '\"{by}\"', {fence})"
    );
    match session.transaction(&finish).await {
        Ok(_) => return world.ledger.completed(name, by),
        Err(Failure::Refused(state, message)) => {
            return world.ledger.fault(format!("an answer was refused: {state} {message}"));
        }
        Err(Failure::Gone) => world.ledger.gone(),
    }
    // Was it done? The key knows.
    match session.insist(&claim).await {
        Ok(rows) if rows[0][0] == "replay" => world.ledger.completed(name, by),
        Ok(rows) if rows[0][0] == "in_progress" => match session.insist(&finish).await {
            Ok(_) => world.ledger.completed(name, by),
            // The server ended in the middle of this, too, and had done it.
            Err((state, _)) if state == "55000" => {}
            Err((state, message)) => world.ledger.fault(format!("an answer was refused: {state} {message}")),
        },
        Ok(rows) => world.ledger.fault(format!("the key {name:?} that {by} holds is told {rows:?}")),
        Err((state, message)) => world.ledger.fault(format!("a claim was refused: {state} {message}")),
    }
}
