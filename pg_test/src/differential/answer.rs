//! What a server says to a statement, in a form in which two can be compared: rows as a multiset.

use tokio_postgres::SimpleQueryMessage;

use crate::Client;

/// The answer of one server to one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Results(Vec<Rows>),
    Refused { code: String, message: String },
}

/// The rows of one result in order of their text, and the number in the command's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    rows: Vec<Vec<Option<String>>>,
    count: u64,
}

impl Answer {
    pub async fn of(client: &Client, sql: &str) -> Self {
        match client.simple_query(sql).await {
            Ok(messages) => Answer::Results(results(messages)),
            Err(error) => Answer::Refused {
                code: error.code().map(|code| code.code().to_string()).unwrap_or_default(),
                message: error.as_db_error().map_or_else(|| format!("{error:?}"), |error| error.message().to_string()),
            },
        }
    }

    /// What COPY wrote.
    pub fn lines(text: &str) -> Self {
        let mut rows: Vec<_> = text.lines().map(|line| vec![Some(line.to_string())]).collect();
        rows.sort();
        let count = rows.len() as u64;
        Answer::Results(vec![Rows { rows, count }])
    }

    pub fn succeeded(&self) -> bool {
        matches!(self, Answer::Results(_))
    }

    /// Rows that came, of all results.
    fn rows(&self) -> Vec<&Vec<Option<String>>> {
        match self {
            Answer::Results(results) => results.iter().flat_map(|result| &result.rows).collect(),
            Answer::Refused { .. } => Vec::new(),
        }
    }

    pub fn has_rows(&self) -> bool {
        !self.rows().is_empty()
    }

    /// All values of all rows, NULLs left out.
    pub fn values(&self) -> Vec<String> {
        self.rows().into_iter().flatten().flatten().cloned().collect()
    }

    /// The values of a single row, for variables.
    pub fn single_row(&self) -> Vec<Option<String>> {
        self.rows().first().map(|row| (*row).clone()).unwrap_or_default()
    }

    /// The same rows and counts as the sealed side's, or an error of the same SQLSTATE. A row that says it is another tenant's is refused by
    /// a constraint here and by the seal there.
    pub fn is_as(&self, sealed: &Answer) -> bool {
        match (self, sealed) {
            (Answer::Results(one), Answer::Results(other)) => one == other,
            (Answer::Refused { code: one, message }, Answer::Refused { code: other, message: by_seal }) => {
                one == other || message.contains("\"one_tenant\"") && by_seal.contains("\"bulkhead_seal\"")
            }
            _ => false,
        }
    }

    /// For a person: the rows that are not the other's, or the error.
    pub fn beside(&self, other: &Answer) -> String {
        if let Answer::Refused { code, message } = self {
            return format!("{code} {message}");
        }
        let others = other.rows();
        let own: Vec<String> =
            self.rows().into_iter().filter(|row| !others.contains(row)).take(4).map(|row| line(row)).collect();
        format!("{} rows; not the other's: {}", self.rows().len(), own.join(" "))
    }
}

fn line(row: &[Option<String>]) -> String {
    let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    let text: String = values.join("|").chars().take(200).collect();
    format!("({text})")
}

fn results(messages: Vec<SimpleQueryMessage>) -> Vec<Rows> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|i| row.get(i).map(String::from)).collect::<Vec<_>>());
            }
            SimpleQueryMessage::CommandComplete(count) => {
                rows.sort();
                results.push(Rows { rows: std::mem::take(&mut rows), count });
            }
            _ => {}
        }
    }
    results
}
