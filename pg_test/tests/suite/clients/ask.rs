//! What an example is asked to do, and what it answers.

use serde_json::{Value, json};

/// An error that the example let through.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: Option<String>,
    pub message: String,
}

impl Refusal {
    #[track_caller]
    pub fn state(&self, wanted: &str) {
        assert_eq!(self.sqlstate.as_deref(), Some(wanted), "{}", self.message);
    }
}

pub type Answer = Result<Value, Refusal>;

/// An example that runs, whatever it is written in.
pub trait Example: Sync {
    fn ask(&self, request: Value) -> impl Future<Output = Answer> + Send;

    /// `[status, body]` of POST /orders.
    fn order(&self, context: &str, key: &str, item: &str, quantity: i64) -> impl Future<Output = Answer> + Send {
        let body = json!({"item": item, "quantity": quantity});
        self.ask(json!({"do": "order", "context": context, "key": key, "body": body}))
    }

    /// The tenant's orders.
    fn list(&self, context: &str) -> impl Future<Output = Answer> + Send {
        self.ask(json!({"do": "list", "context": context}))
    }

    /// `{verdict, remaining}` of decrement_now().
    fn sell(&self, context: &str, order: &str, item: &str, quantity: i64) -> impl Future<Output = Answer> + Send {
        self.ask(json!({"do": "sell", "context": context, "key": order, "item": item, "quantity": quantity}))
    }

    /// Reads orders over the same pool, in no tenant's name.
    fn naked(&self) -> impl Future<Output = Answer> + Send {
        self.ask(json!({"do": "naked"}))
    }

    /// The tenant that the pool's next user finds.
    fn left(&self) -> impl Future<Output = Answer> + Send {
        self.ask(json!({"do": "left"}))
    }
}
