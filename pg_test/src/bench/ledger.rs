//! Verdicts that are there already, ours and those of who does without us.

use anyhow::Result;

use crate::Database;

/// Days of them.
const DAYS: u32 = 8;

/// Makes the table `ledger`, with the columns and keys of ours, and puts so many verdicts of the last days into both, partitioned by the day. An inventory `hot` is there.
///
/// Both are analyzed: a rival whose statement was planned for an empty table would read all of it.
pub fn fill(database: &Database, verdicts: u32) -> Result<()> {
    let rows = verdicts / DAYS;
    database.admin(
        "CREATE TABLE ledger (LIKE bulkhead.order_verdict) PARTITION BY RANGE (decided_at);
         ALTER TABLE ledger OWNER TO owner;
         GRANT SELECT, INSERT ON ledger TO app;",
    )?;
    for day in 0..DAYS {
        database.admin(&format!(
            "DO $$ DECLARE
               day date := (now() AT TIME ZONE 'UTC')::date - {day};
               bounds text := format('FOR VALUES FROM (%L) TO (%L)', day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
             BEGIN
               CREATE TABLE ledger_{day} (LIKE ledger);
               INSERT INTO ledger_{day} SELECT gen_random_uuid(), day::timestamp AT TIME ZONE 'UTC' + interval '1 s', 1, 7, 'hot'::regclass, 1, 'a', '',
                 gen_random_uuid()::text, 'item 1' FROM generate_series(1, {rows});
               CREATE TABLE bulkhead.order_verdict_{day}_ago (LIKE bulkhead.order_verdict);
               INSERT INTO bulkhead.order_verdict_{day}_ago SELECT * FROM ledger_{day};
               ALTER TABLE ledger_{day} ADD PRIMARY KEY (digest, line);
               ALTER TABLE bulkhead.order_verdict_{day}_ago ADD PRIMARY KEY (digest, line);
               EXECUTE 'ALTER TABLE ledger ATTACH PARTITION ledger_{day} ' || bounds;
               EXECUTE 'ALTER TABLE bulkhead.order_verdict ATTACH PARTITION bulkhead.order_verdict_{day}_ago ' || bounds;
             END $$;"
        ))?;
    }
    database.admin("CALL bulkhead.maintain(); VACUUM (FREEZE, ANALYZE); CHECKPOINT").map(drop)
}
