//! The life of a database that uses every room: dumped, upgraded, copied, replicated, on a server without the library, beside others.
//!
//! | file | what it is for |
//! |---|---|
//! | world.rs, world.sql | a database in which every room is in use; what it has to do wherever it comes to |
//! | facts.rs, catalogs.sql | all rows, and everything that the catalogs say of objects, as texts that are compared |
//! | moving.rs | pg_dump and pg_restore, pg_upgrade |
//! | upgrading.rs | ALTER EXTENSION UPDATE from each version of sql/released |
//! | standby.rs | a standby that streams, serves, and is promoted |
//! | replication.rs | logical replication between protected tables |
//! | preload.rs | a server that had the library preloaded, and has not any more |
//! | databases.rs | databases with the extension and without it, side by side |

mod databases;
mod facts;
mod moving;
mod preload;
mod replication;
mod standby;
mod upgrading;
pub mod world;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let rooms = [
        databases::tests(),
        moving::tests(),
        preload::tests(),
        replication::tests(),
        standby::tests(),
        upgrading::tests(),
    ];
    rooms.into_iter().flatten().collect()
}
