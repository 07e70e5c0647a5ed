//! The fold, by example and against a model.

use std::collections::HashMap;

use super::{Answer, Earlier, Line, Order, Outcome, Verdict, fold};

fn line(item: u32, quantity: i64) -> Line {
    Line { item: Some(item), quantity: Some(quantity) }
}

/// New orders, each with these lines.
fn run(orders: &[&[Line]], stock: &mut [Option<i64>]) -> Vec<Vec<(Verdict, Option<i64>)>> {
    let (lines, orders) = laid_out(orders);
    let mut answers = blank(lines.len());
    let outcomes = fold(&lines, &orders, stock, &mut answers);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Decided));
    orders
        .iter()
        .map(|order| answers[order.lines.clone()].iter().map(|answer| (answer.verdict, answer.remaining)).collect())
        .collect()
}

fn laid_out(orders: &[&[Line]]) -> (Vec<Line>, Vec<Order>) {
    let mut lines = Vec::new();
    let orders = orders
        .iter()
        .map(|order| {
            let from = lines.len();
            lines.extend_from_slice(order);
            Order { lines: from..lines.len(), earlier: Earlier::Nothing }
        })
        .collect();
    (lines, orders)
}

fn blank(length: usize) -> Vec<Answer> {
    vec![Answer { verdict: Verdict::Invalid, remaining: None }; length]
}

#[test]
fn an_oversized_order_leaves_the_rest_to_those_behind_it() {
    use Verdict::{Accepted, Insufficient};
    let mut stock = [Some(10)];
    let told = run(&[&[line(0, 4)], &[line(0, 7)], &[line(0, 6)], &[line(0, 1)]], &mut stock);
    assert_eq!(
        told,
        [[(Accepted, Some(6))], [(Insufficient, Some(6))], [(Accepted, Some(0))], [(Insufficient, Some(0))]]
    );
    assert_eq!(stock, [Some(0)]);
}

#[test]
fn an_order_of_several_lines_is_all_or_nothing() {
    use Verdict::{Accepted, Insufficient, Rejected, UnknownItem};
    let mut stock = [Some(5), Some(1), None];
    let told = run(
        &[&[line(0, 2), line(1, 2)], &[line(0, 5), line(1, 1)], &[line(0, 1), line(2, 1)], &[line(1, 1), line(0, 1)]],
        &mut stock,
    );
    assert_eq!(told[0], [(Rejected, Some(5)), (Insufficient, Some(1))]);
    assert_eq!(told[1], [(Accepted, Some(0)), (Accepted, Some(0))]);
    assert_eq!(told[2], [(Insufficient, Some(0)), (UnknownItem, None)]);
    assert_eq!(told[3], [(Insufficient, Some(0)), (Insufficient, Some(0))]);
    assert_eq!(stock, [Some(0), Some(0), None]);
}

#[test]
fn what_asks_for_nothing_that_could_be_is_invalid() {
    use Verdict::{Invalid, Rejected};
    let (null_item, null_quantity) = (Line { item: None, quantity: Some(1) }, Line { item: Some(0), quantity: None });
    let mut stock = [Some(i64::MAX), Some(3)];
    let told = run(
        &[
            &[line(0, 0)],
            &[line(0, -1)],
            &[line(0, i64::MIN)],
            &[null_item],
            &[null_quantity],
            &[line(0, 1), line(1, 1), line(0, 2)],
        ],
        &mut stock,
    );
    for order in &told[..5] {
        assert_eq!(order[..], [(Invalid, None)]);
    }
    assert_eq!(told[5], [(Invalid, None), (Rejected, Some(3)), (Invalid, None)]);
    assert_eq!(run(&[&[line(0, i64::MAX)]], &mut stock), [[(Verdict::Accepted, Some(0))]]);
}

#[test]
fn a_stock_below_zero_gives_nothing() {
    let mut stock = [Some(-3)];
    assert_eq!(run(&[&[line(0, 1)]], &mut stock), [[(Verdict::Insufficient, Some(-3))]]);
    assert_eq!(stock, [Some(-3)]);
}

#[test]
fn what_is_stored_is_told_again_and_costs_nothing() {
    let stored = vec![
        (line(0, 2), Answer { verdict: Verdict::Accepted, remaining: Some(8) }),
        (line(1, 1), Answer { verdict: Verdict::Accepted, remaining: Some(3) }),
    ];
    let lines = [line(1, 1), line(0, 2), line(0, 3), line(1, 1)];
    let orders = [
        Order { lines: 0..2, earlier: Earlier::Stored(stored.clone()) },
        Order { lines: 2..4, earlier: Earlier::Stored(stored) },
    ];
    let (mut stock, mut answers) = ([Some(8), Some(3)], blank(4));
    assert_eq!(fold(&lines, &orders, &mut stock, &mut answers), [Outcome::Replayed, Outcome::Conflict]);
    assert_eq!(answers[..2].iter().map(|answer| answer.remaining).collect::<Vec<_>>(), [Some(3), Some(8)]);
    assert!(answers[2..].iter().all(|answer| answer.verdict == Verdict::Conflict && answer.remaining.is_none()));
    assert_eq!(stock, [Some(8), Some(3)]);
}

#[test]
fn an_order_that_comes_twice_in_a_batch_is_one() {
    let lines = [line(0, 2), line(0, 2), line(0, 3)];
    let orders = [
        Order { lines: 0..1, earlier: Earlier::Nothing },
        Order { lines: 1..2, earlier: Earlier::InBatch(0) },
        Order { lines: 2..3, earlier: Earlier::InBatch(0) },
    ];
    let (mut stock, mut answers) = ([Some(10)], blank(3));
    let outcomes = fold(&lines, &orders, &mut stock, &mut answers);
    assert_eq!(outcomes, [Outcome::Decided, Outcome::Replayed, Outcome::Conflict]);
    assert_eq!(stock, [Some(8)]);
}

#[test]
fn after_a_conflict_the_right_lines_are_replayed() {
    let stored = vec![(line(0, 2), Answer { verdict: Verdict::Accepted, remaining: Some(8) })];
    let lines = [line(0, 3), line(0, 2), line(0, 3)];
    let orders = [
        Order { lines: 0..1, earlier: Earlier::Stored(stored) },
        Order { lines: 1..2, earlier: Earlier::InBatch(0) },
        Order { lines: 2..3, earlier: Earlier::InBatch(0) },
    ];
    let (mut stock, mut answers) = ([Some(8)], blank(3));
    let outcomes = fold(&lines, &orders, &mut stock, &mut answers);
    assert_eq!(outcomes, [Outcome::Conflict, Outcome::Replayed, Outcome::Conflict]);
    assert_eq!(answers[1], Answer { verdict: Verdict::Accepted, remaining: Some(8) });
}

#[test]
fn letters_come_back() {
    for letter in *b"aiurcx" {
        assert_eq!(Verdict::of_letter(letter).map(Verdict::letter), Some(letter));
    }
    assert_eq!(Verdict::of_letter(b'-'), None);
}

/// One request after the other, as a person would do it by hand.
#[derive(Default)]
struct Model {
    stock: HashMap<u32, i64>,
    told: HashMap<u64, Vec<(Line, Answer)>>,
}

impl Model {
    fn ask(&mut self, order: u64, lines: &[Line]) -> Vec<Answer> {
        let sorted = |lines: &[Line]| {
            let mut lines = lines.to_vec();
            lines.sort();
            lines
        };
        if let Some(told) = self.told.get(&order) {
            let before: Vec<Line> = told.iter().map(|(line, _)| *line).collect();
            if sorted(&before) != sorted(lines) {
                return vec![Answer { verdict: Verdict::Conflict, remaining: None }; lines.len()];
            }
            let mut left = told.clone();
            return lines
                .iter()
                .map(|line| {
                    let at = left.iter().position(|(stored, _)| stored == line).expect("the lines are the same");
                    left.remove(at).1
                })
                .collect();
        }
        let alone = |line: &Line| {
            let (Some(item), Some(quantity)) = (line.item, line.quantity) else { return Verdict::Invalid };
            if quantity <= 0 || lines.iter().filter(|other| other.item == line.item).count() > 1 {
                return Verdict::Invalid;
            }
            match self.stock.get(&item) {
                None => Verdict::UnknownItem,
                Some(stock) if *stock < quantity => Verdict::Insufficient,
                Some(_) => Verdict::Accepted,
            }
        };
        let verdicts: Vec<Verdict> = lines.iter().map(alone).collect();
        let all = verdicts.iter().all(|verdict| *verdict == Verdict::Accepted);
        let answers: Vec<Answer> = lines
            .iter()
            .zip(verdicts)
            .map(|(line, verdict)| {
                let stock = line.item.and_then(|item| self.stock.get(&item).copied());
                match verdict {
                    Verdict::Accepted if all => {
                        let left = stock.unwrap_or(0) - line.quantity.unwrap_or(0);
                        self.stock.extend(line.item.map(|item| (item, left)));
                        Answer { verdict, remaining: Some(left) }
                    }
                    Verdict::Accepted => Answer { verdict: Verdict::Rejected, remaining: stock },
                    Verdict::Invalid => Answer { verdict, remaining: None },
                    _ => Answer { verdict, remaining: stock },
                }
            })
            .collect();
        self.told.insert(order, lines.iter().copied().zip(answers.iter().copied()).collect());
        answers
    }
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn it_does_what_the_model_does() {
    for seed in 1..=2_000_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let items = 1 + numbers.below(4);
        let mut model = Model::default();
        let mut stock: Vec<Option<i64>> = Vec::new();
        for item in 0..items {
            let there = numbers.below(6) != 0;
            let quantity = numbers.below(12) as i64;
            stock.push(there.then_some(quantity));
            if there {
                model.stock.insert(item as u32, quantity);
            }
        }
        let initial: i64 = stock.iter().flatten().sum();
        let mut accepted = 0;
        // What an earlier batch stored, another batch of the same orders replays.
        let mut ledger: HashMap<u64, Vec<(Line, Answer)>> = HashMap::new();
        for _batch in 0..3 {
            let (mut lines, mut orders, mut ids) = (Vec::new(), Vec::<Order>::new(), Vec::<u64>::new());
            for _ in 0..numbers.below(12) {
                let id = numbers.below(10);
                let from = lines.len();
                for _ in 0..=numbers.below(3) {
                    lines.push(Line {
                        item: (numbers.below(12) != 0).then(|| numbers.below(items) as u32),
                        quantity: (numbers.below(12) != 0).then(|| numbers.below(7) as i64 - 1),
                    });
                }
                let earlier = match (ids.iter().position(|other| *other == id), ledger.get(&id)) {
                    (Some(first), _) => Earlier::InBatch(first),
                    (None, Some(stored)) => Earlier::Stored(stored.clone()),
                    (None, None) => Earlier::Nothing,
                };
                ids.push(id);
                orders.push(Order { lines: from..lines.len(), earlier });
            }
            let mut answers = blank(lines.len());
            let outcomes = fold(&lines, &orders, &mut stock, &mut answers);
            for ((order, id), outcome) in orders.iter().zip(&ids).zip(outcomes) {
                let (asked, told) = (&lines[order.lines.clone()], &answers[order.lines.clone()]);
                assert_eq!(told, model.ask(*id, asked), "seed {seed}, order {id}");
                if outcome == Outcome::Decided {
                    ledger.insert(*id, asked.iter().copied().zip(told.iter().copied()).collect());
                    let taken = asked.iter().zip(told).filter(|(_, answer)| answer.verdict == Verdict::Accepted);
                    accepted += taken.filter_map(|(line, _)| line.quantity).sum::<i64>();
                }
            }
        }
        let left: i64 = stock.iter().flatten().sum();
        assert_eq!(initial, left + accepted, "seed {seed}");
        assert!(stock.iter().flatten().all(|left| *left >= 0), "seed {seed}");
    }
}
