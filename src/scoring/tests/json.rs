//! JSON text to the server's binary form and back, for tests: slow, plain, and none of the code that it tests but the writer.

use bumpalo::Bump;

use crate::scoring::build;
use crate::scoring::number::{self, Number, Outcome};
use crate::scoring::value::Value;

/// A jsonb without its length.
pub fn jsonb(text: &str) -> Vec<u8> {
    let arena = Bump::new();
    let mut parser = Parser { text: text.as_bytes(), at: 0, arena: &arena };
    let value = parser.value();
    parser.blanks();
    assert_eq!(parser.at, text.len(), "trailing text in {text}");
    build::document(&value).expect("a document of a test fits")
}

struct Parser<'t, 'a> {
    text: &'t [u8],
    at: usize,
    arena: &'a Bump,
}

impl<'a> Parser<'_, 'a> {
    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> u8 {
        self.blanks();
        self.text[self.at]
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let there = self.peek() == wanted;
        self.at += usize::from(there);
        there
    }

    fn value(&mut self) -> Value<'a> {
        match self.peek() {
            b'{' => {
                self.at += 1;
                let mut pairs = Vec::new();
                while !self.eat(b'}') {
                    let Value::Text(key) = self.value() else { panic!("a key") };
                    assert!(self.eat(b':'));
                    pairs.push((key, self.value()));
                    self.eat(b',');
                }
                Value::Pairs(self.arena.alloc_slice_copy(&pairs))
            }
            b'[' => {
                self.at += 1;
                let mut list = Vec::new();
                while !self.eat(b']') {
                    list.push(self.value());
                    self.eat(b',');
                }
                Value::List(self.arena.alloc_slice_copy(&list))
            }
            b'"' => self.string(),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Value<'a> {
        assert!(self.text[self.at..].starts_with(word.as_bytes()), "{word}");
        self.at += word.len();
        value
    }

    fn string(&mut self) -> Value<'a> {
        let from = self.at;
        self.at += 1;
        while self.text[self.at] != b'"' {
            self.at += 1 + usize::from(self.text[self.at] == b'\\');
        }
        self.at += 1;
        let text: String = serde_json::from_slice(&self.text[from..self.at]).expect("a string");
        Value::Text(self.arena.alloc_slice_copy(text.as_bytes()))
    }

    fn number(&mut self) -> Value<'a> {
        let from = self.at;
        while self.text.get(self.at).is_some_and(|byte| b"+-.eE0123456789".contains(byte)) {
            self.at += 1;
        }
        match number::parse(&self.text[from..self.at]).expect("a number") {
            Outcome::Small(number) => Value::Number(number),
            Outcome::Long(decimal) => Value::Number(Number::Long(self.arena.alloc_slice_copy(&build::long(&decimal)))),
        }
    }
}

/// JSON text; a number as it is shown, without zeros at its end.
pub fn text(value: &Value) -> String {
    match value {
        Value::Missing | Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => {
            let mut out = Vec::new();
            number.print_shortest(&mut out);
            String::from_utf8(out).expect("digits")
        }
        Value::Text(text) => serde_json::to_string(&String::from_utf8_lossy(text)).expect("a string"),
        Value::Stored(container) if container.is_object() => {
            let pairs = container.pairs().map(|(key, value)| {
                format!("{}:{}", serde_json::to_string(&String::from_utf8_lossy(key)).expect("a key"), text(&value))
            });
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Stored(container) => format!("[{}]", container.values().map(|v| text(&v)).collect::<Vec<_>>().join(",")),
        Value::List(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Pairs(_) => panic!("a test looks at stored values"),
    }
}
