//! Random statements over the world's tables. Each gives the same result on every run and under every plan: LIMIT stands
//! behind a full ORDER BY, nothing divides, nothing asks for the order of rows or where they are stored.

use super::random::Random;
use super::world::SOURCES;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Int,
    Text,
}
use Type::{Int, Text};

/// What an expression may use: columns, and the aliases whose whole row may be named.
#[derive(Clone, Default)]
pub struct Scope {
    columns: Vec<(String, Type)>,
    rows: Vec<String>,
}

impl Scope {
    fn and(&self, other: &Scope) -> Scope {
        let mut both = self.clone();
        both.columns.extend(other.columns.iter().cloned());
        both.rows.extend(other.rows.iter().cloned());
        both
    }
}

pub struct Generator<'a> {
    pub random: &'a mut Random,
    /// Another tenant, for conditions that ask for its rows.
    pub stranger: &'a str,
    names: usize,
    /// Common table expressions in scope: their columns are x1, x2, …
    with: Vec<(String, Vec<Type>)>,
}

impl<'a> Generator<'a> {
    pub fn new(random: &'a mut Random, stranger: &'a str) -> Self {
        Self { random, stranger, names: 0, with: Vec::new() }
    }

    pub fn name(&mut self) -> String {
        self.names += 1;
        format!("r{}", self.names)
    }

    pub fn types(&mut self) -> Vec<Type> {
        let count = 1 + self.random.below(4);
        (0..count).map(|_| *self.random.pick(&[Int, Text])).collect()
    }

    /// A query that yields columns of these types.
    pub fn query(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        if depth == 0 {
            return self.select(0, outer, types);
        }
        match self.random.below(14) {
            0 | 1 => {
                let verb =
                    *self.random.pick(&["UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
                let left = self.query(depth - 1, outer, types);
                let right = self.query(depth - 1, outer, types);
                format!("({left}) {verb} ({right})")
            }
            2 => self.with(depth, outer, types),
            3 => self.recursive(depth, types),
            4 => {
                let inner = self.query(depth - 1, outer, types);
                let order: Vec<String> = (1..=types.len()).map(|n| n.to_string()).collect();
                let order = order.join(", ");
                let limit = self.random.below(6);
                let offset = if self.random.one_in(3) { " OFFSET 1" } else { "" };
                format!("(SELECT * FROM ({inner}) q ORDER BY {order} LIMIT {limit}{offset})")
            }
            5 | 6 => self.grouped(depth, outer, types),
            7 => self.distinct_on(depth, outer, types),
            8 => self.windowed(depth, outer, types),
            _ => self.select(depth, outer, types),
        }
    }

    fn select(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        let (from, scope) = self.from(depth, outer);
        let all = scope.and(outer);
        let targets: Vec<String> = types.iter().map(|t| self.expression(depth, &all, *t)).collect();
        let distinct = if self.random.one_in(5) { "DISTINCT " } else { "" };
        let condition = self.condition(depth, &all);
        format!("SELECT {distinct}{} FROM {from} WHERE {condition}", targets.join(", "))
    }

    fn with(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        let name = self.name();
        let inner_types = self.types();
        let inner = self.query(depth - 1, outer, &inner_types);
        let columns = columns_of(&inner_types).join(", ");
        let how = *self.random.pick(&["", "MATERIALIZED ", "NOT MATERIALIZED "]);
        self.with.push((name.clone(), inner_types));
        let body = self.query(depth - 1, outer, types);
        self.with.pop();
        format!("(WITH {name}({columns}) AS {how}({inner}) SELECT * FROM ({body}) q)")
    }

    fn recursive(&mut self, depth: usize, types: &[Type]) -> String {
        let name = self.name();
        let source = *self.random.pick(&["t0", "t1", "parts", "heir", "inlined()", "deep_view", "kid"]);
        self.with.push((name.clone(), vec![Int, Int, Text]));
        let body = self.query(depth - 1, &Scope::default(), types);
        self.with.pop();
        format!(
            "(WITH RECURSIVE {name}(x1, x2, x3) AS (SELECT 1, s.id, s.c FROM {source} s WHERE s.b > 1
             UNION SELECT n.x1 + 1, s.id, s.c FROM {name} n JOIN {source} s ON s.id = n.x2 + 1 WHERE n.x1 < 4) SELECT * FROM ({body}) q)"
        )
    }

    fn grouped(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        let (from, scope) = self.from(depth, outer);
        let all = scope.and(outer);
        let keys = [self.column(&scope, Int), self.column(&scope, Text)];
        let mut targets = Vec::new();
        for kind in types {
            let target = match (kind, self.random.below(4)) {
                (Int, 0) => "count(*)::int".to_string(),
                (Int, 1) => keys[0].clone(),
                (Int, 2) => format!("sum({})::int", self.column(&scope, Int)),
                (Int, _) => {
                    let condition = self.simple_condition(&scope);
                    format!("(count(DISTINCT {}) FILTER (WHERE {condition}))::int", self.column(&scope, Text))
                }
                (Text, 0) => keys[1].clone(),
                (Text, 1) => {
                    let column = self.column(&scope, Text);
                    format!("string_agg({column}, ',' ORDER BY {column})")
                }
                (Text, 2) => format!("max({})", self.column(&scope, Text)),
                (Text, _) => {
                    let column = self.column(&scope, Int);
                    format!("array_agg({column} ORDER BY {column})::text")
                }
            };
            targets.push(target);
        }
        let by = match self.random.below(4) {
            0 => format!("ROLLUP ({}, {})", keys[0], keys[1]),
            1 => format!("GROUPING SETS (({}), ({}), ())", keys[0], keys[1]),
            2 => format!("CUBE ({}, {})", keys[0], keys[1]),
            _ => keys.join(", "),
        };
        let condition = self.condition(depth, &all);
        let having = if self.random.one_in(3) { " HAVING count(*) > 1" } else { "" };
        format!("SELECT {} FROM {from} WHERE {condition} GROUP BY {by}{having}", targets.join(", "))
    }

    fn distinct_on(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        let inner = self.query(depth - 1, outer, types);
        let order: Vec<String> = columns_of(types);
        let columns = order.join(", ");
        format!("(SELECT DISTINCT ON (x1) * FROM ({inner}) q({columns}) ORDER BY {columns})")
    }

    fn windowed(&mut self, depth: usize, outer: &Scope, types: &[Type]) -> String {
        let (from, scope) = self.from(depth, outer);
        let all = scope.and(outer);
        let mut targets = Vec::new();
        for kind in types {
            let [part, order] = [self.column(&scope, Text), self.column(&scope, Int)];
            targets.push(match (kind, self.random.below(3)) {
                (Int, 0) => format!("(rank() OVER (PARTITION BY {part} ORDER BY {order}))::int"),
                (Int, 1) => format!("(sum({order}) OVER (PARTITION BY {part}))::int"),
                (Int, _) => format!("(count(*) OVER (ORDER BY {order}))::int"),
                // Nothing that depends on the order of equal rows.
                (Text, 0) => format!("min({part}) OVER (PARTITION BY {order})"),
                (Text, _) => format!("max({part}) OVER (ORDER BY {order})"),
            });
        }
        let condition = self.condition(depth, &all);
        format!("SELECT {} FROM {from} WHERE {condition}", targets.join(", "))
    }

    /// A FROM clause and its columns.
    pub fn from(&mut self, depth: usize, outer: &Scope) -> (String, Scope) {
        let (left, scope) = self.item(depth, outer, false);
        if depth == 0 || self.random.one_in(3) {
            return (left, scope);
        }
        let lateral = self.random.one_in(4);
        let (right, other) = match lateral {
            true => self.item(depth - 1, &scope.and(outer), true),
            false => self.item(depth - 1, outer, false),
        };
        let both = scope.and(&other);
        let on = format!("{} = {}", self.column(&scope, Int), self.column(&other, Int));
        let from = match self.random.below(if lateral { 4 } else { 7 }) {
            0 => format!("{left} CROSS JOIN {right}"),
            1 => format!("{left}, {right}"),
            2 => format!("{left} JOIN {right} ON {on} AND {}", self.condition(depth - 1, &both)),
            3 => format!("{left} LEFT JOIN {right} ON {on}"),
            4 => format!("{left} RIGHT JOIN {right} ON {on} AND {}", self.simple_condition(&both)),
            5 => format!("{left} FULL JOIN {right} ON {on}"),
            _ => format!("{left} JOIN {right} ON {on}"),
        };
        (from, both)
    }

    fn item(&mut self, depth: usize, outer: &Scope, lateral: bool) -> (String, Scope) {
        let name = self.name();
        let named = |types: &[Type]| Scope {
            columns: columns_of(types).into_iter().zip(types).map(|(c, t)| (format!("{name}.{c}"), *t)).collect(),
            rows: vec![name.clone()],
        };
        if lateral || (depth > 0 && self.random.one_in(4)) {
            let types = vec![Int, Text, Int];
            let inner = self.query(depth.saturating_sub(1), outer, &types);
            let word = if lateral { "LATERAL " } else { "" };
            return (format!("{word}({inner}) AS {name}({})", columns_of(&types).join(", ")), named(&types));
        }
        if !self.with.is_empty() && self.random.one_in(2) {
            let (with, types) = self.random.pick(&self.with).clone();
            // A column of each type is always wanted.
            let extra = format!("(SELECT *, 1 AS y1, 'y'::text AS y2 FROM {with}) AS {name}");
            let mut scope = named(&types);
            scope.columns.push((format!("{name}.y1"), Int));
            scope.columns.push((format!("{name}.y2"), Text));
            return (extra, scope);
        }
        if self.random.one_in(15) {
            return (format!("(VALUES (1, 'a0'), (2, 'b0'), (NULL, NULL)) AS {name}(x1, x2)"), named(&[Int, Text]));
        }
        let source = *self.random.pick(&SOURCES);
        let columns = ["id", "a", "b"].map(|column| (format!("{name}.{column}"), Int));
        let texts = [(format!("{name}.c"), Text), (format!("{name}.tenant_id::text"), Text)];
        (format!("{source} AS {name}"), Scope { columns: columns.into_iter().chain(texts).collect(), rows: vec![name] })
    }

    fn column(&mut self, scope: &Scope, kind: Type) -> String {
        let fitting: Vec<&String> = scope.columns.iter().filter(|(_, t)| *t == kind).map(|(c, _)| c).collect();
        match (fitting.is_empty(), kind) {
            (true, Int) => "1".into(),
            (true, Text) => "'c0'::text".into(),
            _ => (*self.random.pick(&fitting)).clone(),
        }
    }

    pub fn expression(&mut self, depth: usize, scope: &Scope, kind: Type) -> String {
        let sublink = depth > 0 && self.random.one_in(4);
        match (kind, self.random.below(9)) {
            (Int, 0) if sublink => {
                let inner = self.query(depth - 1, scope, &[Int]);
                format!("(SELECT max(q.x1) FROM ({inner}) q(x1))")
            }
            (Int, 1) if sublink => {
                let inner = self.query(depth - 1, scope, &[Text]);
                format!("(SELECT count(*)::int FROM ({inner}) q)")
            }
            (Int, 2) => format!("coalesce({}, 0) + 1", self.column(scope, Int)),
            (Int, 3) => self.constant(),
            (Int, 4) => format!("how_many({})", self.column(scope, Int)),
            (Int, 5) => format!("how_many_slow({})", self.column(scope, Int)),
            (Text, 0) if sublink => {
                let inner = self.query(depth - 1, scope, &[Text]);
                format!("ARRAY(SELECT q.x1 FROM ({inner}) q(x1) ORDER BY 1)::text")
            }
            (Text, 1) if !scope.rows.is_empty() => format!("{}::text", self.random.pick(&scope.rows)),
            (Text, 2) => format!("coalesce({}, 'none') || '!'", self.column(scope, Text)),
            (Text, 3) => {
                let condition = self.simple_condition(scope);
                format!("CASE WHEN {condition} THEN {} ELSE 'else' END", self.column(scope, Text))
            }
            _ => self.column(scope, kind),
        }
    }

    /// A number, or the parameter of a prepared statement.
    pub fn constant(&mut self) -> String {
        match self.random.one_in(2) {
            true => "$1::int".into(),
            false => self.random.below(8).to_string(),
        }
    }

    pub fn simple_condition(&mut self, scope: &Scope) -> String {
        let verb = *self.random.pick(&["=", "<", ">=", "<>", "IS DISTINCT FROM"]);
        match self.random.below(6) {
            0 => format!("{} IS NOT NULL", self.column(scope, Text)),
            1 => format!("{} LIKE '%0%'", self.column(scope, Text)),
            2 => format!("{} {verb} '{}'", self.column(scope, Text), self.stranger),
            _ => format!("{} {verb} {}", self.column(scope, Int), self.constant()),
        }
    }

    pub fn condition(&mut self, depth: usize, scope: &Scope) -> String {
        if depth == 0 {
            return if self.random.one_in(2) { "true".into() } else { self.simple_condition(scope) };
        }
        let kind = *self.random.pick(&[Int, Text]);
        match self.random.below(10) {
            0 => format!("{} AND {}", self.condition(depth - 1, scope), self.simple_condition(scope)),
            1 => format!("({} OR {})", self.condition(depth - 1, scope), self.simple_condition(scope)),
            2 => format!("NOT ({})", self.condition(depth - 1, scope)),
            3 => format!("EXISTS ({})", self.query(depth - 1, scope, &[kind])),
            4 => format!("NOT EXISTS ({})", self.query(depth - 1, scope, &[kind])),
            5 => format!("{} IN ({})", self.column(scope, kind), self.query(depth - 1, scope, &[kind])),
            6 => format!("{} NOT IN ({})", self.column(scope, kind), self.query(depth - 1, scope, &[kind])),
            7 => format!("{} >= ALL ({})", self.column(scope, Int), self.query(depth - 1, scope, &[Int])),
            _ => self.simple_condition(scope),
        }
    }

    /// The columns of one relation, as another statement names them.
    pub fn scope_of(&self, alias: &str) -> Scope {
        let columns = ["id", "a", "b"].map(|column| (format!("{alias}.{column}"), Int));
        let text = (format!("{alias}.c"), Text);
        Scope { columns: columns.into_iter().chain([text]).collect(), rows: Vec::new() }
    }
}

fn columns_of(types: &[Type]) -> Vec<String> {
    (1..=types.len()).map(|n| format!("x{n}")).collect()
}
