//! Bounds of partitions: from what the catalog prints to moments, and back to SQL. Pure Rust.

use super::time::{self, DAY, FUTURE, PAST};
use crate::type_oid;

/// What a table can be partitioned by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Timestamptz,
    /// Taken to be in UTC.
    Timestamp,
    Date,
    /// A UUIDv7, whose first 48 bits are milliseconds since 1970.
    Uuid,
}

impl Kind {
    /// By the oids that pg_type.dat fixes; none for a type that is not supported.
    pub fn of(type_oid: u32) -> Option<Kind> {
        match type_oid {
            type_oid::TIMESTAMPTZ => Some(Kind::Timestamptz),
            type_oid::TIMESTAMP => Some(Kind::Timestamp),
            type_oid::DATE => Some(Kind::Date),
            type_oid::UUID => Some(Kind::Uuid),
            _ => None,
        }
    }

    pub fn print(self, moment: i64) -> String {
        match self {
            Kind::Timestamptz => format!("{}+00", time::print(moment)),
            Kind::Timestamp => time::print(moment),
            Kind::Date => time::print_date(moment),
            Kind::Uuid => {
                let millis = moment.max(0) / 1000;
                format!("{:08x}-{:04x}-0000-0000-000000000000", millis >> 16, millis & 0xffff)
            }
        }
    }

    fn parse(self, text: &str) -> Option<i64> {
        if self != Kind::Uuid {
            return time::parse(text);
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let millis = digits.get(..12).filter(|_| digits.len() == 32)?;
        Some(i64::from_str_radix(millis, 16).ok()? * 1000)
    }

    /// The moment that a bound made for this one really has: a date has no clock, a UUIDv7 no microseconds.
    pub fn round(self, moment: i64) -> i64 {
        match self {
            Kind::Timestamptz | Kind::Timestamp => moment,
            Kind::Date => moment.div_euclid(DAY) * DAY,
            Kind::Uuid => moment.max(0) / 1000 * 1000,
        }
    }
}

/// One end of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    pub at: i64,
    /// As it stands in FOR VALUES: a quoted constant, MINVALUE or MAXVALUE.
    pub sql: String,
}

impl Edge {
    pub fn at(kind: Kind, moment: i64) -> Edge {
        Edge { at: kind.round(moment), sql: format!("'{}'", kind.print(moment)) }
    }
}

/// What a partition holds: from `lower` on, `upper` not included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    pub lower: Edge,
    pub upper: Edge,
}

impl Range {
    /// From what `pg_get_expr(relpartbound, oid)` prints under UTC and ISO. None for DEFAULT, and for what is no such range.
    pub fn parse(kind: Kind, bound: &str) -> Option<Range> {
        let (lower, upper) = bound.strip_prefix("FOR VALUES FROM (")?.strip_suffix(')')?.split_once(") TO (")?;
        Some(Range { lower: edge(kind, lower)?, upper: edge(kind, upper)? })
    }

    /// `FROM ('...') TO ('...')`.
    pub fn values(&self) -> String {
        format!("FROM ({}) TO ({})", self.lower.sql, self.upper.sql)
    }

    /// The same as a condition, as the server derives it from the bound: a table with this constraint is attached without a scan.
    pub fn condition(&self, column: &str) -> String {
        let mut condition = format!("{column} IS NOT NULL");
        for (edge, operator) in [(&self.lower, ">="), (&self.upper, "<")] {
            if edge.sql.starts_with('\'') {
                condition.push_str(&format!(" AND {column} OPERATOR(pg_catalog.{operator}) {}", edge.sql));
            }
        }
        condition
    }
}

fn edge(kind: Kind, sql: &str) -> Option<Edge> {
    let at = match sql {
        "MINVALUE" => PAST,
        "MAXVALUE" => FUTURE,
        _ => kind.parse(sql.strip_prefix('\'')?.strip_suffix('\'')?)?,
    };
    Some(Edge { at, sql: sql.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_ONE: i64 = 1_767_571_200_000_000;

    #[test]
    fn bounds_are_read_and_written_alike() {
        for (kind, bound) in [
            (Kind::Timestamptz, "FOR VALUES FROM ('2026-01-05 00:00:00+00') TO ('2026-01-06 00:00:00+00')"),
            (Kind::Timestamp, "FOR VALUES FROM ('2026-01-05 00:00:00') TO ('2026-01-06 00:00:00')"),
            (Kind::Date, "FOR VALUES FROM ('2026-01-05') TO ('2026-01-06')"),
            (
                Kind::Uuid,
                "FOR VALUES FROM ('019b8b3b-3000-0000-0000-000000000000') TO ('019b9061-9800-0000-0000-000000000000')",
            ),
        ] {
            let range = Range::parse(kind, bound).unwrap_or_else(|| panic!("{bound}"));
            assert_eq!(kind.print(range.lower.at), range.lower.sql.trim_matches('\''));
            assert_eq!(format!("FOR VALUES {}", range.values()), bound);
            if kind != Kind::Uuid {
                assert_eq!((range.lower.at, range.upper.at), (DAY_ONE, DAY_ONE + DAY), "{kind:?}");
            }
            assert_eq!(Edge::at(kind, range.upper.at), range.upper);
        }
    }

    #[test]
    fn a_uuid_is_its_milliseconds() {
        let edge = Edge::at(Kind::Uuid, DAY_ONE + 1999);
        assert_eq!((edge.at, edge.sql.as_str()), (DAY_ONE + 1000, "'019b8b74-1801-0000-0000-000000000000'"));
        assert_eq!(Kind::Uuid.print(-5), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn open_ends_and_others() {
        let open = Range::parse(Kind::Date, "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)").unwrap();
        assert_eq!((open.lower.at, open.upper.at), (PAST, FUTURE));
        assert_eq!(open.condition("d"), "d IS NOT NULL");
        let day = Range::parse(Kind::Date, "FOR VALUES FROM ('2026-01-05') TO ('infinity')").unwrap();
        assert_eq!(day.upper.at, FUTURE);
        assert_eq!(
            day.condition("\"a b\""),
            "\"a b\" IS NOT NULL AND \"a b\" OPERATOR(pg_catalog.>=) '2026-01-05' AND \"a b\" OPERATOR(pg_catalog.<) 'infinity'"
        );
        assert_eq!(Range::parse(Kind::Date, "DEFAULT"), None);
        assert_eq!(Range::parse(Kind::Date, "FOR VALUES IN ('2026-01-05')"), None);
        assert_eq!(Range::parse(Kind::Date, "FOR VALUES FROM ('2026-01-05', 1) TO ('2026-01-06', 1)"), None);
    }
}
