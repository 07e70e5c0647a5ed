//! What the programs of this crate read from their command lines alike.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context, Result};

/// The number that follows an option.
pub fn number<T>(option: &str, arguments: &mut impl Iterator<Item = String>) -> Result<T>
where
    T: FromStr<Err: Display>,
{
    let text = arguments.next().with_context(|| format!("{option} needs a number"))?;
    text.parse().map_err(|error| anyhow::anyhow!("{option} {text}: {error}"))
}

/// A seed for who names none: another one each second.
pub fn seed() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_secs() % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_follows() {
        let read = |line: &str| number::<u32>("--kills", &mut line.split_whitespace().map(str::to_owned));
        assert_eq!(read("20 --seed").ok(), Some(20));
        for line in ["", "many", "-1", "4294967296"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
