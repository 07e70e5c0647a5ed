//! JSON, read strictly: a member that comes twice is a fault, at any depth.
//!
//! Most readers keep the last one, some the first. A token that two readers understand differently must not count.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    NotJson,
    Duplicate,
    /// A string contains U+0000, which no text of the database can hold.
    Nul,
}

const DUPLICATE: &str = "duplicate member";
const NUL: &str = "NUL character";

/// Reads one JSON value and nothing after it. Depth is bounded by serde_json (128).
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(value)) => Ok(value),
        Err(error) => {
            let text = error.to_string();
            Err(if text.starts_with(DUPLICATE) {
                Fault::Duplicate
            } else if text.starts_with(NUL) {
                Fault::Nul
            } else {
                Fault::NotJson
            })
        }
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        Reader.deserialize(deserializer).map(Strict)
    }
}

#[derive(Clone, Copy)]
struct Reader;

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn text<E: serde::de::Error>(text: &str) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(text.to_owned()) }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        text(value).map(Value::String)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = sequence.next_element_seed(Reader)? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let name = text(&name)?;
            let value = members.next_value_seed(Reader)?;
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is() {
        let text = r#"{"a":[1,-2,2.5,true,null,"x"],"b":{"c":{}},"big":18446744073709551615}"#;
        assert_eq!(parse(text.as_bytes()).map(|value| value.to_string()), Ok(text.to_owned()));
    }

    #[test]
    fn a_member_that_comes_twice_is_a_fault_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[{"y":{"a":1,"a":1}}]}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Fault::Duplicate), "{text}");
        }
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{}x", "{} {}", "1e999", "{\"a\":01}", "{a:1}", "\"\\ud800\"", "{'a':1}", deep.as_str()] {
            assert_eq!(parse(text.as_bytes()), Err(Fault::NotJson), "{text:.20}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(Fault::NotJson));
        assert_eq!(parse(br#"{"a":"\u0000"}"#), Err(Fault::Nul));
        assert_eq!(parse(br#"{"\u0000":1}"#), Err(Fault::Nul));
    }
}
