//! Who lifted the seal, when and why: a line in the server log, always, and a row of bulkhead.bypass_log, where one can be written.

use crate::pg::counters::{self, Counter};
use crate::pg::{client, scan, settings};

/// What a statement's text is cut to.
const STATEMENT_BYTES: usize = 1000;

/// Records the bypass that is in force.
pub fn write() {
    counters::add(Counter::Bypass, 1);
    let reason = settings::bypass();
    let statement = shown(&client::statement());
    let who = client::who();
    client::log(format!(
        "bulkhead bypass by role \"{}\" (session user \"{}\", client {}, application \"{}\"): {}; statement: {}",
        who.role, who.session_role, who.address, who.application, reason, statement
    ));
    if client::may_write() {
        scan::append_bypass([&who.role, &who.session_role, &who.address, &who.application, &reason, &statement]);
    }
}

/// A statement on one line, cut, and without tokens.
fn shown(statement: &str) -> String {
    let mut shown = String::new();
    for word in statement.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        match word.find("eyJ") {
            Some(at) => {
                shown.push_str(&word[..at]);
                shown.push_str("(token)");
            }
            None => shown.push_str(word),
        }
        if shown.len() > STATEMENT_BYTES {
            let end = (0..=STATEMENT_BYTES).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown.truncate(end);
            shown.push_str("...");
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_statement_is_shown_on_one_line_and_cut() {
        assert_eq!(shown("SELECT 1,\n\t2"), "SELECT 1, 2");
        let long = shown(&"x ".repeat(5000));
        assert!(long.len() < 1010 && long.ends_with("..."), "{} bytes", long.len());
        assert!(shown(&"\u{e9}".repeat(5000)).ends_with("..."));
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(
            shown("SET LOCAL bulkhead.tenant_context = 'eyJhbGciOiJIUzI1NiJ9.e30.x'; SELECT 1"),
            "SET LOCAL bulkhead.tenant_context = '(token) SELECT 1"
        );
    }
}
