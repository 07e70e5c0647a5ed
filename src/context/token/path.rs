//! Paths to claims, as the settings give them, and what a claim may hold.

use serde_json::Value;

/// Stands for the tenant id in the paths of roles and permissions.
const TENANT: &str = "{tenant}";

/// A path with dots between its steps, such as `app_metadata.org_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// `with_tenant`: the path may contain `{tenant}`. The error says what is wrong with it.
    pub fn parse(text: &str, with_tenant: bool) -> Result<Path, &'static str> {
        if text.split('.').any(str::is_empty) {
            return Err("it is empty, or has an empty step");
        }
        if text.len() > 255 || text.chars().any(char::is_control) {
            return Err("it is longer than 255 bytes, or has a control character");
        }
        if !with_tenant && text.contains(TENANT) {
            return Err("it contains {tenant}, which is not known before the tenant is");
        }
        Ok(Path(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The claim at this path. A top-level claim whose whole name is the path goes first: some issuers use names with dots.
    pub fn find<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        claims.get(&self.0).or_else(|| self.0.split('.').try_fold(claims, |value, step| member(value, step)))
    }

    /// The same, with the tenant's id for `{tenant}`: it never becomes more than one step, whatever dots it has.
    pub fn find_for<'a>(&self, claims: &'a Value, tenant: &str) -> Option<&'a Value> {
        if !self.0.contains(TENANT) {
            return self.find(claims);
        }
        self.0.split('.').try_fold(claims, |value, step| member(value, &step.replace(TENANT, tenant)))
    }
}

/// A member of an object; an array has none.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.get(name)
}

/// The names in a claim: an array of strings, or one string with spaces between them, as OAuth's `scope`. What is anything
/// else gives no name.
pub fn names(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(all)) => all.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text, true).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn dots_lead_into_objects_only() {
        let claims = json!({"a": {"b": {"c": 1}}, "list": [{"c": 2}], "text": "x"});
        assert_eq!(path("a.b.c").find(&claims), Some(&json!(1)));
        for none in ["a.b.d", "a.b.c.d", "list.0", "list.c", "text.x", "b"] {
            assert_eq!(path(none).find(&claims), None, "{none}");
        }
    }

    #[test]
    fn a_claim_with_dots_in_its_name_is_found() {
        let claims = json!({"https://app.example.com/tenant": "t", "a.b": 1, "a": {"b": 2}});
        assert_eq!(path("https://app.example.com/tenant").find(&claims), Some(&json!("t")));
        assert_eq!(path("a.b").find(&claims), Some(&json!(1)));
    }

    #[test]
    fn a_tenant_is_one_step_whatever_it_contains() {
        let claims = json!({"w": {"a.b": {"roles": ["one"]}, "a": {"b": {"roles": ["two"]}}}, "x": {"pre-t": 1}});
        assert_eq!(path("w.{tenant}.roles").find_for(&claims, "a.b"), Some(&json!(["one"])));
        assert_eq!(path("w.{tenant}.roles").find_for(&claims, "a.c"), None);
        assert_eq!(path("x.pre-{tenant}").find_for(&claims, "t"), Some(&json!(1)));
        let tricky = json!({"w": {"{tenant}": {"roles": ["x"]}}});
        assert_eq!(path("w.{tenant}.roles").find_for(&tricky, "t"), None);
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "a\tb"] {
            assert!(Path::parse(bad, true).is_err(), "{bad:?}");
        }
        assert!(Path::parse("a.{tenant}", false).is_err() && Path::parse("a.{tenant}", true).is_ok());
        assert!(Path::parse(&"x".repeat(256), true).is_err());
    }

    #[test]
    fn names_come_from_arrays_and_from_words() {
        assert_eq!(names(Some(&json!(["a", 1, "b c", null, ["d"]]))), ["a", "b c"]);
        assert_eq!(names(Some(&json!(" read  write "))), ["read", "write"]);
        for none in [json!(1), json!({"a": true}), json!(null), json!(true)] {
            assert_eq!(names(Some(&none)), [""; 0]);
        }
        assert_eq!(names(None), [""; 0]);
    }
}
