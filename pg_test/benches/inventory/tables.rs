//! The inventory with its ledger, and what would be there without it.

use anyhow::Result;
use pg_test::Database;
use pg_test::bench::Options;
use pg_test::bench::demand::ITEMS;
use pg_test::bench::ledger;

/// Verdicts that are there already, over eight partitions.
pub fn verdicts(options: &Options) -> u32 {
    options.pick(5_000_000, 20_000)
}

/// More than anybody takes.
const PLENTY: i64 = 1_000_000_000;

/// Both ledgers, the same rows in both; `hot` is registered, `by_hand` is the rivals'.
pub fn make(database: &Database, options: &Options) -> Result<()> {
    database.admin(&format!(
        "SET ROLE owner;
         CREATE TABLE hot (id text PRIMARY KEY, quantity bigint NOT NULL CHECK (quantity >= 0));
         CREATE TABLE by_hand (LIKE hot INCLUDING ALL);
         CREATE TABLE units (id bigint GENERATED ALWAYS AS IDENTITY, item text NOT NULL);
         INSERT INTO hot SELECT 'item ' || n, {PLENTY} FROM generate_series(1, {ITEMS}) n;
         INSERT INTO by_hand SELECT * FROM hot;
         INSERT INTO units (item) SELECT 'item 1' FROM generate_series(1, {units});
         CREATE INDEX ON units (item, id);
         SELECT bulkhead.register_inventory('hot');
         RESET ROLE;",
        units = options.pick(400_000, 5_000),
    ))?;
    ledger::fill(database, verdicts(options))?;
    database.admin(RIVALS).map(drop)
}

/// What can be written by hand: the best set-based batch, which locks, looks its orders up, takes and stores in two statements; and a loop over the batch. Neither
/// is greedy: the batch by sets rejects all that come after the first order that does not fit.
const RIVALS: &str = "
CREATE FUNCTION by_sets(orders text[], items text[], quantities bigint[]) RETURNS TABLE (order_id text, verdict \"char\", remaining bigint)
LANGUAGE plpgsql AS $$ BEGIN
  PERFORM FROM by_hand h WHERE h.id = ANY (items) ORDER BY h.id FOR NO KEY UPDATE;
  RETURN QUERY
    WITH asked AS MATERIALIZED (
           SELECT a.o, md5(a.o)::uuid AS digest, a.i, a.q, a.n FROM unnest(orders, items, quantities) WITH ORDINALITY AS a (o, i, q, n)),
         known AS MATERIALIZED (
           SELECT l.digest, l.verdict, l.remaining FROM asked a JOIN ledger l ON l.digest = a.digest AND l.line = 1 AND l.decided_at > now() - interval '7 days'),
         fresh AS MATERIALIZED (
           SELECT a.*, h.quantity - sum(a.q) OVER (PARTITION BY a.i ORDER BY a.n) AS after, h.quantity
             FROM asked a JOIN by_hand h ON h.id = a.i WHERE NOT EXISTS (SELECT FROM known k WHERE k.digest = a.digest)),
         taken AS (
           UPDATE by_hand h SET quantity = f.after FROM (SELECT i, min(after) AS after FROM fresh WHERE after >= 0 GROUP BY i) f WHERE h.id = f.i),
         stored AS (
           INSERT INTO ledger SELECT digest, clock_timestamp(), q, greatest(after, 0), 'by_hand'::regclass, 1, CASE WHEN after >= 0 THEN 'a' ELSE 'i' END::\"char\", '', o, i FROM fresh
           RETURNING digest, ledger.verdict, ledger.remaining)
    SELECT a.o, coalesce(s.verdict, k.verdict), coalesce(s.remaining, k.remaining)
      FROM asked a LEFT JOIN stored s USING (digest) LEFT JOIN known k USING (digest);
END $$;
CREATE FUNCTION by_loop(orders text[], items text[], quantities bigint[]) RETURNS TABLE (order_id text, verdict \"char\", remaining bigint)
LANGUAGE plpgsql AS $$ DECLARE
  n integer;
  after bigint;
BEGIN
  FOR n IN 1..array_length(orders, 1) LOOP
    SELECT l.verdict, l.remaining INTO verdict, remaining FROM ledger l WHERE l.digest = md5(orders[n])::uuid AND l.line = 1 AND l.decided_at > now() - interval '7 days';
    IF NOT FOUND THEN
      UPDATE by_hand h SET quantity = h.quantity - quantities[n] WHERE h.id = items[n] AND h.quantity >= quantities[n] RETURNING h.quantity INTO remaining;
      verdict := CASE WHEN FOUND THEN 'a' ELSE 'i' END;
      INSERT INTO ledger VALUES (md5(orders[n])::uuid, clock_timestamp(), quantities[n], remaining, 'by_hand'::regclass, 1, verdict, '', orders[n], items[n]);
    END IF;
    order_id := orders[n];
    RETURN NEXT;
  END LOOP;
END $$;";
