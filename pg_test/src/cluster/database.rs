//! A database of its own for each test, cloned from a template that has the extension.
//!
//! | role | what it is |
//! |---|---|
//! | `postgres` | the superuser, whom row security never binds |
//! | `owner` | a plain role that may create tables |
//! | `app` | a plain role that may read and write what `owner` creates in `public` |
//! | `svc` | the same with BYPASSRLS: a service's admin connection |

use std::process::Output;

use anyhow::Result;

use super::Cluster;
use crate::client::Client;

const TEMPLATE: &str = "bulkhead_template";

const ROLES: &str = "
CREATE ROLE owner LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE svc LOGIN BYPASSRLS;
CREATE DATABASE bulkhead_template;
";

const CONTENT: &str = "
CREATE EXTENSION bulkhead;
GRANT CREATE, USAGE ON SCHEMA public TO owner;
GRANT USAGE ON SCHEMA public TO app, svc;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app, svc;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO app, svc;
";

/// A clone can only be made while nobody is connected to what it is cloned from.
const SEAL: &str = "
ALTER DATABASE bulkhead_template WITH ALLOW_CONNECTIONS false IS_TEMPLATE true;
";

pub(super) fn prepare_template(cluster: &Cluster) -> Result<()> {
    cluster.admin("postgres", ROLES)?;
    cluster.admin(TEMPLATE, CONTENT)?;
    cluster.admin("postgres", SEAL)?;
    Ok(())
}

/// Whether the template may be connected to, as for a time a program needs that wants to see every database.
pub(super) fn open_template(cluster: &Cluster, open: bool) -> Result<()> {
    cluster.admin("postgres", &format!("ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS {open}")).map(drop)
}

/// One database of a cluster. Dropping the handle leaves it; the cluster's end deletes all.
#[derive(Clone)]
pub struct Database {
    pub cluster: Cluster,
    pub name: String,
}

impl Cluster {
    /// A new database with the extension, named after `label`.
    pub fn database(&self, label: &str) -> Result<Database> {
        let name = self.unique_name(label);
        // The right to create in a database is not cloned with it.
        self.admin(
            "postgres",
            &format!(
                "CREATE DATABASE {name} TEMPLATE {TEMPLATE};\n\
                 GRANT CREATE ON DATABASE {name} TO owner;"
            ),
        )?;
        *super::lock(&self.0.latest) = name.clone();
        Ok(Database { cluster: self.clone(), name })
    }

    /// A new database without the extension and without grants.
    pub fn empty_database(&self, label: &str) -> Result<Database> {
        let name = self.unique_name(label);
        self.admin("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(Database { cluster: self.clone(), name })
    }

    /// A name that needs no quotes and fits into an identifier.
    fn unique_name(&self, label: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let label: String = label.chars().map(plain).take(50).collect();
        format!("t_{label}_{}", self.next_number())
    }
}

impl Database {
    /// A session of a role that may bypass the seal, and does: for setting up and looking behind the scenes.
    pub async fn past_the_seal(&self, user: &str) -> Client {
        let role = user.replace('"', "\"\"");
        let grant = format!("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO \"{role}\"");
        self.admin(&grant).unwrap_or_else(|error| panic!("{error:#}"));
        let mut config = self.config(user);
        config.options(super::PAST_THE_SEAL);
        Client::connect(&config).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs psql on a script.
    pub fn psql(&self, user: &str, script: &str) -> Result<Output> {
        self.cluster.psql(user, &self.name, script)
    }

    /// A superuser's script that has to work; the output is unaligned rows.
    pub fn admin(&self, script: &str) -> Result<String> {
        self.cluster.admin(&self.name, script)
    }

    /// pg_dump, pg_restore, pgbench… told to connect here as `user`.
    pub fn client_program(&self, name: &str, user: &str) -> std::process::Command {
        self.cluster.client_program(name, user, &self.name)
    }

    /// What the server logged about this database, or about the server while it lived.
    pub fn log(&self) -> String {
        let mut shown = Vec::new();
        let mut ours = false;
        for line in self.cluster.log().lines() {
            // Lines that go on with an entry begin with a tab.
            if !line.starts_with('\t') {
                ours = line.contains(&format!("] {} ", self.name)) || is_about_a_crash(line);
            }
            if ours {
                shown.push(line.to_string());
            }
        }
        shown.join("\n")
    }

    pub fn drop(self) -> Result<()> {
        self.cluster.admin("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name)).map(|_| ())
    }
}

fn is_about_a_crash(line: &str) -> bool {
    line.contains("PANIC:") || line.contains("was terminated by signal")
}
