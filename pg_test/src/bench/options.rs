//! The command line of a benchmark: `cargo bench [FEATURE…] [-- --quick]`.

const USAGE: &str = "usage: cargo bench [FEATURE…] [-- --quick]
  FEATURE   only benchmarks of these features (context, rls…)
  --quick   few rounds over small tables: shows that it works, measures nothing";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub quick: bool,
    features: Vec<String>,
}

impl Options {
    /// Reads the arguments. Cargo adds `--bench` when it benchmarks and nothing when it tests, which is a quick run.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { quick: true, features: Vec::new() };
        let mut asked_quick = false;
        for argument in arguments {
            match argument.as_str() {
                "--bench" => options.quick = false,
                "--quick" => asked_quick = true,
                flag if flag.starts_with('-') => return Err(USAGE.to_string()),
                _ => options.features.push(argument),
            }
        }
        options.quick |= asked_quick;
        Ok(options)
    }

    /// Whether the benchmarks of this feature shall run.
    pub fn wants_any_of(&self, feature: &str) -> bool {
        self.features.is_empty() || self.features.iter().any(|wanted| wanted == feature)
    }

    /// One number for a measurement, another for a quick run.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_string))
    }

    #[test]
    fn quick_is_asked_for_or_a_test_run() {
        assert_eq!(parse("--bench").map(|o| o.quick), Ok(false));
        assert_eq!(parse("--quick --bench").map(|o| o.quick), Ok(true));
        assert_eq!(parse("").map(|o| o.quick), Ok(true));
        assert!(parse("--bench --fast").is_err());
    }

    #[test]
    fn a_feature_leaves_the_others_out() {
        let options = parse("rls --bench").unwrap_or_default();
        assert!(options.wants_any_of("rls") && !options.wants_any_of("context"));
        assert!(parse("--bench").unwrap_or_default().wants_any_of("context"));
    }
}
