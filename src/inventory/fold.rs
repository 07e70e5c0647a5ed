//! The decision about a batch of orders: in the order of their arrival, greedily, each order all or nothing. Pure Rust, so that it can be
//! tried against a slow and obvious model.
//!
//! An order that does not fit takes nothing, and the next still gets its chance: a running sum over the batch would reject every order
//! behind one that is too large.

/// What came of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Accepted,
    /// There is less than it asks for.
    Insufficient,
    UnknownItem,
    /// It fits, and another line of its order does not.
    Rejected,
    /// The same order came before with other lines. Never stored.
    Conflict,
    /// The line asks for nothing that could be.
    Invalid,
    /// Not decided yet. Never stored.
    Pending,
}

impl Verdict {
    pub const ALL: [Verdict; 7] = [
        Verdict::Accepted,
        Verdict::Insufficient,
        Verdict::UnknownItem,
        Verdict::Rejected,
        Verdict::Conflict,
        Verdict::Invalid,
        Verdict::Pending,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Insufficient => "insufficient",
            Verdict::UnknownItem => "unknown_item",
            Verdict::Rejected => "rejected",
            Verdict::Conflict => "conflict",
            Verdict::Invalid => "invalid",
            Verdict::Pending => "pending",
        }
    }

    /// How it is stored.
    pub fn letter(self) -> u8 {
        match self {
            Verdict::Accepted => b'a',
            Verdict::Insufficient => b'i',
            Verdict::UnknownItem => b'u',
            Verdict::Rejected => b'r',
            Verdict::Conflict => b'c',
            Verdict::Invalid => b'x',
            Verdict::Pending => b'p',
        }
    }

    pub fn of_letter(letter: u8) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.letter() == letter)
    }
}

/// What a line asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Line {
    /// The item's number in the batch; None for NULL.
    pub item: Option<u32>,
    pub quantity: Option<i64>,
}

/// What a line was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub verdict: Verdict,
    /// What the item had left after the order; None where there is no such item.
    pub remaining: Option<i64>,
}

/// What is known of an order from before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Earlier {
    Nothing,
    /// These lines were told that.
    Stored(Vec<(Line, Answer)>),
    /// It is the same order as an earlier one of this batch: of this number.
    InBatch(usize),
    /// Another transaction is deciding it.
    Busy,
}

#[derive(Clone, Debug)]
pub struct Order {
    /// Places in the list of lines.
    pub lines: std::ops::Range<usize>,
    pub earlier: Earlier,
}

/// What became of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its verdict is new, and has to be stored.
    Decided,
    Replayed,
    Conflict,
    /// Not decided: it is busy.
    Left,
}

/// Decides.
///
/// `lines`: of all orders, those of an order side by side; `stock`: of each item, None where there is no such item; reduced by what is
/// accepted. Returns what became of each order; each line's answer is left in `answers`, which is as long as `lines`.
pub fn fold(lines: &[Line], orders: &[Order], stock: &mut [Option<i64>], answers: &mut [Answer]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(orders.len());
    for order in orders {
        let outcome = match &order.earlier {
            Earlier::Nothing => {
                decide(&lines[order.lines.clone()], stock, &mut answers[order.lines.clone()]);
                Outcome::Decided
            }
            Earlier::Stored(stored) => replay(&lines[order.lines.clone()], stored, &mut answers[order.lines.clone()]),
            Earlier::Busy => Outcome::Left,
            Earlier::InBatch(first) if outcomes[*first] == Outcome::Left => Outcome::Left,
            Earlier::InBatch(first) => {
                let first = orders[*first].lines.clone();
                let told: Vec<(Line, Answer)> = first.map(|at| (lines[at], answers[at])).collect();
                match told.first() {
                    // The first came with other lines than what is stored: so does this one, or it does not.
                    Some((_, Answer { verdict: Verdict::Conflict, .. })) => {
                        match orders.iter().find_map(|other| stored_of(orders, other, order)) {
                            Some(stored) => {
                                replay(&lines[order.lines.clone()], stored, &mut answers[order.lines.clone()])
                            }
                            None => conflict(&mut answers[order.lines.clone()]),
                        }
                    }
                    _ => replay(&lines[order.lines.clone()], &told, &mut answers[order.lines.clone()]),
                }
            }
        };
        outcomes.push(outcome);
    }
    outcomes
}

/// What is stored of `order`, which is the same as an earlier one, if that is `other`.
fn stored_of<'a>(orders: &'a [Order], other: &'a Order, order: &Order) -> Option<&'a [(Line, Answer)]> {
    match (&order.earlier, &other.earlier) {
        (Earlier::InBatch(first), Earlier::Stored(stored)) if std::ptr::eq(&orders[*first], other) => Some(stored),
        _ => None,
    }
}

fn conflict(answers: &mut [Answer]) -> Outcome {
    answers.fill(Answer { verdict: Verdict::Conflict, remaining: None });
    Outcome::Conflict
}

fn decide(lines: &[Line], stock: &mut [Option<i64>], answers: &mut [Answer]) {
    let doubled = doubled(lines);
    let mut fits = true;
    for (at, line) in lines.iter().enumerate() {
        let remaining = line.item.and_then(|item| stock[item as usize]);
        let quantity = line.quantity.filter(|quantity| *quantity > 0);
        let verdict = match (line.item, quantity, remaining) {
            (None, _, _) | (_, None, _) => Verdict::Invalid,
            (Some(item), ..) if doubled.binary_search(&item).is_ok() => Verdict::Invalid,
            (_, _, None) => Verdict::UnknownItem,
            (_, Some(quantity), Some(remaining)) if quantity > remaining => Verdict::Insufficient,
            _ => Verdict::Accepted,
        };
        fits &= verdict == Verdict::Accepted;
        let remaining = if verdict == Verdict::Invalid { None } else { remaining };
        answers[at] = Answer { verdict, remaining };
    }
    for (line, answer) in lines.iter().zip(answers) {
        if answer.verdict != Verdict::Accepted {
            continue;
        }
        if !fits {
            answer.verdict = Verdict::Rejected;
            continue;
        }
        if let (Some(item), Some(quantity)) = (line.item, line.quantity)
            && let Some(left) = &mut stock[item as usize]
        {
            *left -= quantity;
            answer.remaining = Some(*left);
        }
    }
}

/// Items that stand in more than one line, in order.
fn doubled(lines: &[Line]) -> Vec<u32> {
    if lines.len() < 2 {
        return Vec::new();
    }
    let mut items: Vec<u32> = lines.iter().filter_map(|line| line.item).collect();
    items.sort_unstable();
    let mut doubled: Vec<u32> = items.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    doubled.dedup();
    doubled
}

/// The same lines, in whatever order, get what they were told before.
fn replay(lines: &[Line], stored: &[(Line, Answer)], answers: &mut [Answer]) -> Outcome {
    let by_line = |lines: &[Line]| {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|at| lines[*at]);
        order
    };
    let before: Vec<Line> = stored.iter().map(|(line, _)| *line).collect();
    let (ours, theirs) = (by_line(lines), by_line(&before));
    if ours.len() != theirs.len() || ours.iter().zip(&theirs).any(|(our, their)| lines[*our] != before[*their]) {
        return conflict(answers);
    }
    for (our, their) in ours.iter().zip(&theirs) {
        answers[*our] = stored[*their].1;
    }
    Outcome::Replayed
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
