//! What can go wrong with one rule and one document. Pure Rust.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An operator needs one thing and got another.
    Needs {
        what: &'static str,
        got: &'static str,
    },
    /// A text where a number is needed.
    NotANumber,
    DivisionByZero,
    /// A number longer than numeric has digits.
    TooLong,
    NotADate,
    /// Compared deeper than anybody nests.
    TooDeep,
    /// Larger than jsonb can hold.
    TooLarge,
    /// The document is at fault no more than the rules: nothing of the evaluation counts.
    Operations,
    Bytes,
}

impl Fault {
    /// Ends the evaluation of all rules, and not of one.
    pub fn is_final(self) -> bool {
        matches!(self, Fault::Operations | Fault::Bytes)
    }

    pub fn message(self) -> String {
        match self {
            Fault::Needs { what, got } => format!("{what} is needed, and this is {got}"),
            Fault::NotANumber => "a number is needed, and this text is none".to_owned(),
            Fault::DivisionByZero => "division by zero".to_owned(),
            Fault::TooLong => "the number has too many digits".to_owned(),
            Fault::NotADate => "an ISO date is needed, such as 2026-11-21 or 2026-11-21T10:00:00Z".to_owned(),
            Fault::TooDeep => "the values are nested too deep to be compared".to_owned(),
            Fault::TooLarge => "the result is larger than jsonb can hold".to_owned(),
            Fault::Operations => "the rules took more operations than bulkhead.score_budget_ops allows".to_owned(),
            Fault::Bytes => "the rules took more memory than bulkhead.score_budget_bytes allows".to_owned(),
        }
    }
}

pub type Ran<T> = std::result::Result<T, Fault>;
