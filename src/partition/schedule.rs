//! maintain() as a job of pg_cron.

use super::run;
use crate::error::{self, Result};
use crate::pg::spi;

const JOB: &str = "CALL bulkhead.maintain()";

/// The job's number.
pub fn schedule(cron: &str) -> Result<i64> {
    run::admit_caller()?;
    let facts = spi::row(
        "SELECT current_database()::text, EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron'),
                (SELECT s.setting FROM pg_settings s WHERE s.name = 'cron.database_name' AND s.context = 'postmaster')",
        &[],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?, row.optional::<String>(3)?)),
    )?;
    let Some((database, is_here, home)) = facts else { return Err(error::internal("no answer about pg_cron")) };
    let name = format!("bulkhead maintenance {database}");
    let [name, cron, job, quoted] = [name.as_str(), cron, JOB, database.as_str()].map(spi::literal);
    if is_here {
        // A job of the same name and role is changed.
        let scheduled = spi::row(&format!("SELECT cron.schedule({name}, {cron}, {job})"), &[], |row| row.get(1))?;
        return scheduled.ok_or_else(|| error::internal("pg_cron gave no number"));
    }
    Err(match home {
        None => error::state(
            "pg_cron is not there to schedule the maintenance",
            "It is not in shared_preload_libraries.",
            format!("Install pg_cron, or have any scheduler run every ten minutes: psql -c '{JOB}'"),
        ),
        Some(home) if home == database => error::state(
            "pg_cron is not there to schedule the maintenance",
            "Its library is loaded, but the extension was not created in this database.",
            "CREATE EXTENSION pg_cron;",
        ),
        Some(home) => error::state(
            format!("pg_cron keeps its jobs in database {}", spi::identifier(&home)),
            "Jobs for another database are scheduled from there.",
            format!("SELECT cron.schedule_in_database({name}, {cron}, {job}, {quoted})"),
        ),
    })
}
