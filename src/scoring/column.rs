//! What a score's column takes: a document whose score it does not take fails alone, and not the batch that it is in. Pure Rust.

/// That a column of the type takes the numeric expression `score`, in SQL; None where it takes every one.
pub fn takes(of_type: &str, score: &str) -> Option<String> {
    let between = |low: &str, high: &str| Some(format!("round({score}) BETWEEN {low} AND {high}"));
    match of_type {
        "smallint" => between("-32768", "32767"),
        "integer" => between("-2147483648", "2147483647"),
        "bigint" => between("-9223372036854775808", "9223372036854775807"),
        "real" => Some(format!("abs({score}) <= 3.4028234e38")),
        "double precision" => Some(format!("abs({score}) <= 1.7976931348623157e308")),
        _ => {
            let (precision, scale) = digits(of_type)?;
            Some(format!("abs(round({score}, {scale})) < 1e{}", precision - scale))
        }
    }
}

/// The score as the column has it: what is too small for a float is its zero.
pub fn cast(of_type: &str, score: &str) -> String {
    match of_type {
        "real" => format!("round({score}, 44)::real"),
        "double precision" => format!("round({score}, 323)::double precision"),
        _ => format!("({score})::{of_type}"),
    }
}

/// Of `numeric(precision,scale)`.
fn digits(of_type: &str) -> Option<(i32, i32)> {
    let (precision, scale) = of_type.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}
