//! The server, its tables, and the tenants' tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::RwLock;

use super::ledger::Ledger;
use super::{Options, TENANTS, World};
use crate::pooler::Pooler;
use crate::{Cluster, progress};

/// Of each item for each tenant.
pub const STOCK: i64 = 1_000_000;
/// Of the item that runs out.
pub const FEW: i64 = 300;

/// The secret of the issuer, as text and as its key in the set.
const SECRET: &str = "01234567890123456789012345678901";
const JWKS: &str = r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}]}"#;

const TABLES: &str = "
    CREATE TABLE stock (tenant_id text NOT NULL, sku text NOT NULL, pieces bigint NOT NULL CHECK (pieces >= 0), PRIMARY KEY (tenant_id, sku));
    CREATE TABLE done (tenant_id text NOT NULL, key text NOT NULL, by text NOT NULL);
    CREATE INDEX ON done (tenant_id, key);
    CREATE TABLE notes (tenant_id text NOT NULL, id text NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id));
    CREATE TABLE counters (tenant_id text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE leads (tenant_id text NOT NULL, id text NOT NULL, document jsonb, score numeric, status text DEFAULT 'pending_score',
                        writes int NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, id));
    CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.writes := OLD.writes + 1; RETURN NEW; END $$;
    CREATE TRIGGER count_write BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION count_write();
    CREATE TABLE ticks (at timestamptz NOT NULL DEFAULT now(), id text NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE archive (at timestamptz NOT NULL, id text NOT NULL);
    CREATE FUNCTION keep(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN EXECUTE format('INSERT INTO public.archive SELECT at, id FROM %s', partition); END $$;";

const PROTECTED: &str = "
    SELECT bulkhead.protect(t) FROM unnest(ARRAY['stock', 'done', 'notes', 'counters', 'leads']::regclass[]) t;
    SELECT bulkhead.register_inventory('stock', 'sku', 'pieces');
    SELECT bulkhead.manage_partitions('ticks', '1 day', '7 days', on_expire => 'public.keep(regclass)'::regprocedure);
    SELECT bulkhead.attach_scoring('leads', 'worth');";

/// HS256, by the server's own sha256: the pads are the secret's bytes xor 36 and 5c in hexadecimal.
const ISSUE: &str = "SELECT m || '.' || translate(encode(sha256('{outer}'::bytea || sha256('{inner}'::bytea || m::bytea)), 'base64'), E'+/=\\n', '-_')
    FROM (SELECT translate(encode('{\"alg\":\"HS256\"}', 'base64'), E'+/=\\n', '-_') || '.' ||
                 translate(encode('{\"tenant_id\":\"{tenant}\",\"exp\":4102444800}', 'base64'), E'+/=\\n', '-_') AS m) s";

pub fn start() -> Result<Cluster> {
    Cluster::builder().setting("bulkhead.jwks", JWKS).setting("max_wal_size", "512MB").start()
}

pub(super) async fn prepare(cluster: &Cluster, options: &Options) -> Result<World> {
    let db = cluster.database("chaos")?;
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.put_shared_rule_set TO owner")?;
    let owner = db.try_connect("owner").await?;
    owner.batch_execute(TABLES).await?;
    let rules = r#"SELECT bulkhead.put_shared_rule_set('worth', '[{"id": "n", "when": true, "score": {"var": "n"}}]')"#;
    owner.batch_execute(rules).await?;
    for tenant in TENANTS {
        let rows = format!(
            "INSERT INTO stock VALUES ('{tenant}', 'a', {STOCK}), ('{tenant}', 'b', {STOCK}), ('{tenant}', 'few', {FEW}); INSERT INTO counters VALUES ('{tenant}', 0)"
        );
        owner.batch_execute(&rows).await?;
    }
    owner.batch_execute(PROTECTED).await?;
    db.admin("CALL bulkhead.maintain()")?;
    let tokens =
        TENANTS.iter().map(|tenant| Ok((*tenant, db.admin(&token(tenant))?))).collect::<Result<BTreeMap<_, _>>>()?;
    let pooler = match Pooler::is_available(cluster) {
        true => Some(Arc::new(Pooler::start(cluster, 4)?)),
        false if crate::flag("CI") => anyhow::bail!("pgbouncer is not installed"),
        false => {
            progress::say("pgbouncer is not installed: everybody connects directly");
            None
        }
    };
    let ledger = Arc::new(Ledger::new(options.too_early));
    Ok(World { db, ledger, pooler, tokens: Arc::new(tokens), gate: Arc::new(RwLock::new(())) })
}

fn token(tenant: &str) -> String {
    let pad = |with: u8| {
        let padded = SECRET.bytes().chain(std::iter::repeat(0)).take(64);
        padded.map(|byte| format!("{:02x}", byte ^ with)).fold("\\x".to_string(), |text, byte| text + &byte)
    };
    ISSUE.replace("{outer}", &pad(0x5c)).replace("{inner}", &pad(0x36)).replace("{tenant}", tenant)
}
