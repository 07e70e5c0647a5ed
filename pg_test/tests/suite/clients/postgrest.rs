//! PostgREST's example: its SQL, as PostgREST sends it, through a real pgbouncer; and PostgREST itself where its program is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::pooler::Pooler;
use pg_test::provision::find_program;
use pg_test::{Database, root};
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use super::scenario::TABLES;
use crate::harness::{Absent, Skip, WithWorkers};
use crate::pooled::pooler;
use crate::tokens::fixture::{Issuer, jwks, setting};

pub fn tests() -> Vec<Trial> {
    crate::tests![postgrests_statements_through_pgbouncer, postgrest]
}

const API: &str = include_str!("../../../../docs/examples/clients/postgrest/api.sql");

/// A request's headers, and what is told: the status, and the body.
type Headers<'a> = &'a [(&'a str, &'a str)];
type Told = (u16, Value);

trait Api {
    async fn post(&self, headers: Headers<'_>, function: &str, body: Value) -> Told;
    async fn orders(&self, headers: Headers<'_>) -> Told;
}

async fn play(db: &Database, issuer: &Issuer, api: &impl Api) {
    let all = db.past_the_seal("postgres").await;
    all.run("INSERT INTO stock VALUES ('h2o', 'anchor', 3), ('acme', 'anchor', 3)").await;
    let bearer = format!("Bearer {}", issuer.token("acme"));
    let (h2o, acme) = (("x-tenant", "h2o"), ("authorization", bearer.as_str()));
    let anchors = |quantity: i64| json!({"item": "anchor", "quantity": quantity});

    assert_eq!(refusal(&api.orders(&[]).await), "42501");
    for tenant in [h2o, acme] {
        let first = api.post(&[tenant, ("idempotency-key", "k1")], "post_order", anchors(2)).await;
        assert_eq!((first.0, &first.1["quantity"]), (201, &json!(2)));
        assert_eq!(api.post(&[tenant, ("idempotency-key", "k1")], "post_order", anchors(2)).await, first);
        assert_eq!(api.post(&[tenant, ("idempotency-key", "k1")], "post_order", anchors(3)).await.0, 422);
    }
    for (tenant, name) in [(h2o, "h2o"), (acme, "acme")] {
        let (status, orders) = api.orders(&[tenant]).await;
        assert_eq!((status, orders.as_array().unwrap().len(), &orders[0]["tenant_id"]), (200, 1, &json!(name)));
    }
    let sale = |order: &str| json!({"order_id": order, "item": "anchor", "quantity": 2});
    for _ in 0..2 {
        let sold = api.post(&[acme], "sell", sale("o1")).await;
        assert_eq!(sold, (200, json!([{"verdict": "accepted", "remaining": 1}])));
    }
    assert_eq!(api.post(&[acme], "sell", sale("o2")).await.1[0]["verdict"], "insufficient");
    assert_eq!(all.rows("SELECT tenant_id, pieces FROM stock ORDER BY 1").await, [["acme", "1"], ["h2o", "3"]]);

    let forged = format!("Bearer {}", Issuer::es("k1").token("acme"));
    let (status, _) = api.orders(&[("authorization", &forged)]).await;
    assert!((400..500).contains(&status), "{status}");
    assert_eq!(refusal(&api.orders(&[]).await), "42501");
}

/// The SQLSTATE in the body of an error.
fn refusal((status, body): &Told) -> &str {
    assert!((400..500).contains(status), "{status} {body}");
    body["code"].as_str().unwrap_or_else(|| panic!("{body}"))
}

/// The tables, the functions, and an issuer.
async fn prepare(db: &Database) -> Issuer {
    let issuer = Issuer::es("k1");
    setting(db, "bulkhead.jwks", &jwks(&[&issuer])).await;
    let owner = db.connect("owner").await;
    owner.run(TABLES).await;
    owner.run(API).await;
    issuer
}

/// What PostgREST sends for a request: one transaction, on whatever server connection the pooler gives.
struct Statements<'a> {
    db: &'a Database,
    pooler: Pooler,
}

impl Statements<'_> {
    async fn transaction(&self, headers: Headers<'_>, query: &str) -> Told {
        let client = self.pooler.connect("app", self.db).await;
        let headers: Value = headers.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
        let begin = format!(
            "BEGIN; SELECT set_config('role', 'app', true), set_config('request.headers', '{headers}', true);
             SELECT public.pass_tenant()"
        );
        let status = "SELECT coalesce(nullif(current_setting('response.status', true), ''), '200')";
        let told = async {
            client.simple_query(&begin).await?;
            let body = value(&client.simple_query(query).await?);
            Ok::<_, tokio_postgres::Error>((value(&client.simple_query(status).await?), body))
        };
        match told.await {
            Ok((status, body)) => {
                client.run("COMMIT").await;
                (status.parse().unwrap(), serde_json::from_str(&body).unwrap())
            }
            Err(error) => {
                client.run("ROLLBACK").await;
                (403, json!({"code": error.code().map(|code| code.code())}))
            }
        }
    }
}

/// The only value of the only row.
fn value(messages: &[SimpleQueryMessage]) -> String {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.expect("a row").to_owned()
}

impl Api for Statements<'_> {
    async fn post(&self, headers: Headers<'_>, function: &str, body: Value) -> Told {
        let query = match function {
            "post_order" => format!("SELECT public.post_order('{body}')"),
            _ => format!(
                "SELECT json_agg(told) FROM public.sell(order_id => '{}', item => '{}', quantity => {}) AS told",
                body["order_id"].as_str().unwrap(),
                body["item"].as_str().unwrap(),
                body["quantity"],
            ),
        };
        self.transaction(headers, &query).await
    }

    async fn orders(&self, headers: Headers<'_>) -> Told {
        self.transaction(headers, "SELECT coalesce(json_agg(orders), '[]') FROM public.orders").await
    }
}

async fn postgrests_statements_through_pgbouncer(db: WithWorkers) -> Result<(), Skip> {
    let pooler = pooler(&db, 1)?;
    let issuer = prepare(&db).await;
    play(&db, &issuer, &Statements { db: &db, pooler }).await;
    Ok(())
}

/// PostgREST is in no distribution's packages, so its absence is no fault of the machine's.
async fn postgrest(db: WithWorkers) -> Result<(), Absent> {
    let program = find_program("postgrest").ok_or_else(|| Absent("PostgREST is not installed".into()))?;
    let issuer = prepare(&db).await;
    let service = Service::start(&db, &program, &issuer);
    play(&db, &issuer, &service).await;
    Ok(())
}

/// PostgREST itself.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(db: &Database, program: &Path, issuer: &Issuer) -> Service {
        let role = format!("authenticator_{}", db.name);
        db.admin(&format!("CREATE ROLE {role} LOGIN NOINHERIT; GRANT app TO {role}")).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let (host, server) = (db.cluster.socket_dir().display().to_string(), db.cluster.port());
        // What the file says of the place; the rest of it counts.
        let child = Command::new(program)
            .arg(root().join("docs/examples/clients/postgrest/postgrest.conf"))
            .env("PGRST_DB_URI", format!("host={host} port={server} user={role} dbname={}", db.name))
            .env("PGRST_JWT_SECRET", jwks(&[issuer]))
            .env("PGRST_SERVER_HOST", "127.0.0.1")
            .env("PGRST_SERVER_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut service = Service { child, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !matches!(
            service.exchange("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            Ok((200, _))
        ) {
            assert!(service.child.try_wait().unwrap().is_none(), "PostgREST has ended");
            assert!(Instant::now() < deadline, "PostgREST does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }

    fn exchange(&self, request: &str) -> std::io::Result<Told> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        // A body in chunks has their lengths around it.
        let json = body.find(['{', '[']).zip(body.rfind(['}', ']'])).map_or("null", |(from, to)| &body[from..=to]);
        Ok((status, serde_json::from_str(json).unwrap_or(Value::Null)))
    }

    fn send(&self, method: &str, headers: Headers<'_>, path: &str, body: &str) -> Told {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             {headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.exchange(&request).unwrap()
    }
}

impl Api for Service {
    async fn post(&self, headers: Headers<'_>, function: &str, body: Value) -> Told {
        self.send("POST", headers, &format!("/rpc/{function}"), &body.to_string())
    }

    async fn orders(&self, headers: Headers<'_>) -> Told {
        self.send("GET", headers, "/orders", "")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
