//! The operators: what each is called and how many arguments it takes. Pure Rust.

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Max,
    Min,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Each {
    Map,
    Filter,
    All,
    None,
    Some,
}

/// What takes its arguments evaluated and looks at nothing else than them, or the data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Function {
    Merge,
    In,
    Cat,
    Substr,
    Log,
    Length,
    StartsWith,
    EndsWith,
    Upper,
    Lower,
    Trim,
    Abs,
    Ceil,
    Floor,
    Now,
    DaysBetween,
    Missing,
    MissingSome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    Var,
    Val,
    Exists,
    If,
    And,
    Or,
    Coalesce,
    Not,
    Truth,
    Equal { loose: bool, negate: bool },
    Order(Order),
    Arithmetic(Arithmetic),
    Each(Each),
    Reduce,
    Call(Function),
}

const MANY: usize = usize::MAX;

/// An operator by its name, with the least and the greatest number of arguments.
pub fn find(name: &[u8]) -> Option<(Operator, usize, usize)> {
    use Operator::*;
    Some(match name {
        b"var" => (Var, 0, 2),
        b"val" => (Val, 0, MANY),
        b"exists" => (Exists, 1, MANY),
        b"if" | b"?:" => (If, 0, MANY),
        b"and" => (And, 1, MANY),
        b"or" => (Or, 1, MANY),
        b"??" => (Coalesce, 0, MANY),
        b"!" => (Not, 0, 1),
        b"!!" => (Truth, 0, 1),
        b"==" => (Equal { loose: true, negate: false }, 2, MANY),
        b"!=" => (Equal { loose: true, negate: true }, 2, MANY),
        b"===" => (Equal { loose: false, negate: false }, 2, MANY),
        b"!==" => (Equal { loose: false, negate: true }, 2, MANY),
        b"<" => (Order(self::Order::Less), 2, MANY),
        b"<=" => (Order(self::Order::LessOrEqual), 2, MANY),
        b">" => (Order(self::Order::Greater), 2, MANY),
        b">=" => (Order(self::Order::GreaterOrEqual), 2, MANY),
        b"+" => (Arithmetic(self::Arithmetic::Add), 0, MANY),
        b"-" => (Arithmetic(self::Arithmetic::Subtract), 1, MANY),
        b"*" => (Arithmetic(self::Arithmetic::Multiply), 0, MANY),
        b"/" => (Arithmetic(self::Arithmetic::Divide), 1, MANY),
        b"%" => (Arithmetic(self::Arithmetic::Remainder), 1, MANY),
        b"max" => (Arithmetic(self::Arithmetic::Max), 1, MANY),
        b"min" => (Arithmetic(self::Arithmetic::Min), 1, MANY),
        b"map" => (Each(self::Each::Map), 2, 2),
        b"filter" => (Each(self::Each::Filter), 2, 2),
        b"all" => (Each(self::Each::All), 2, 2),
        b"none" => (Each(self::Each::None), 2, 2),
        b"some" => (Each(self::Each::Some), 2, 2),
        b"reduce" => (Reduce, 2, 3),
        b"merge" => (Call(Function::Merge), 0, MANY),
        b"in" => (Call(Function::In), 2, 2),
        b"cat" => (Call(Function::Cat), 0, MANY),
        b"substr" => (Call(Function::Substr), 2, 3),
        b"log" => (Call(Function::Log), 1, 1),
        b"length" => (Call(Function::Length), 1, 1),
        b"starts_with" => (Call(Function::StartsWith), 2, 2),
        b"ends_with" => (Call(Function::EndsWith), 2, 2),
        b"upper" => (Call(Function::Upper), 1, 1),
        b"lower" => (Call(Function::Lower), 1, 1),
        b"trim" => (Call(Function::Trim), 1, 1),
        b"abs" => (Call(Function::Abs), 1, 1),
        b"ceil" => (Call(Function::Ceil), 1, 1),
        b"floor" => (Call(Function::Floor), 1, 1),
        b"now" => (Call(Function::Now), 0, 0),
        b"days_between" => (Call(Function::DaysBetween), 2, 2),
        b"missing" => (Call(Function::Missing), 0, MANY),
        b"missing_some" => (Call(Function::MissingSome), 2, 2),
        _ => return None,
    })
}
