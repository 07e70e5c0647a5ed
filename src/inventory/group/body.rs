//! What a slot carries: a request, and then the answer or the error in the same place. Pure Rust.
//!
//! Numbers are little-endian; a text is its length and its bytes, in the database's encoding, and one that is NULL has the length 0xFFFF. Whoever reads it trusts it no further than to
//! be within the slot.

use super::super::fold::{Answer, Verdict};

/// Bytes of a slot's body: an order of some hundred lines. Memory that no request reaches is never touched.
pub const SIZE: usize = 8 * 1024;

/// A length that no text has.
const NULL: usize = 0xFFFF;

/// Bytes that a line's verdict takes.
const ANSWER: usize = 10;

/// Bytes before the first of them.
const HEAD: usize = 8;

const VERDICTS: u8 = 1;
const ERROR: u8 = 2;

/// A request, as the worker reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request<'a> {
    pub relation: u32,
    /// What the caller knew the table as.
    pub identity: [u8; 16],
    pub tenant: &'a [u8],
    /// None asks for nothing.
    pub order: Option<&'a [u8]>,
    pub items: Vec<Option<&'a [u8]>>,
    pub quantities: Vec<Option<i64>>,
}

/// An error, as the caller has to raise it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    pub sqlstate: i32,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// What the worker answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Of each line.
    Told(Vec<Answer>),
    Failed(Fault),
}

/// Writes one thing behind the other; false when there is no room.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> bool {
        match self.bytes.get_mut(self.at..self.at + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.at += bytes.len();
                true
            }
            None => false,
        }
    }

    fn text(&mut self, text: Option<&[u8]>) -> bool {
        let length = text.map_or(NULL, <[u8]>::len);
        (text.is_none() || length < NULL) && self.put(&(length as u16).to_le_bytes()) && self.put(text.unwrap_or(&[]))
    }

    fn number(&mut self, number: Option<i64>) -> bool {
        self.put(&[u8::from(number.is_some())]) && self.put(&number.unwrap_or(0).to_le_bytes())
    }
}

/// Reads it again; None where it ends too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::from(u16::from_le_bytes(self.array()?)) {
            NULL => Some(None),
            length => self.bytes(length).map(Some),
        }
    }

    fn number(&mut self) -> Option<Option<i64>> {
        let [is_there] = self.array()?;
        let number = i64::from_le_bytes(self.array()?);
        Some((is_there == 1).then_some(number))
    }
}

/// Writes a request. False when it does not fit, or its answer would not.
pub fn write_request(bytes: &mut [u8], request: &Request) -> bool {
    let lines = request.items.len();
    if HEAD + lines * ANSWER > bytes.len() || lines > usize::from(u16::MAX) || lines != request.quantities.len() {
        return false;
    }
    let mut to = Writer { bytes, at: 0 };
    to.put(&request.relation.to_le_bytes())
        && to.put(&request.identity)
        && to.put(&(lines as u16).to_le_bytes())
        && to.text(Some(request.tenant))
        && to.text(request.order)
        && request.items.iter().zip(&request.quantities).all(|(item, quantity)| to.text(*item) && to.number(*quantity))
}

pub fn read_request(bytes: &[u8]) -> Option<Request<'_>> {
    let mut from = Reader(bytes);
    let relation = u32::from_le_bytes(from.array()?);
    let identity = from.array()?;
    let lines = usize::from(u16::from_le_bytes(from.array()?));
    let mut request = Request { relation, identity, tenant: from.text()??, order: from.text()?, ..Default::default() };
    for _ in 0..lines {
        request.items.push(from.text()?);
        request.quantities.push(from.number()?);
    }
    Some(request)
}

/// Writes the verdicts of a request that fitted.
pub fn write_answers(bytes: &mut [u8], answers: &[Answer]) {
    let mut to = Writer { bytes, at: 0 };
    to.put(&[VERDICTS, 0, 0, 0]);
    to.put(&(answers.len() as u32).to_le_bytes());
    for answer in answers {
        to.put(&[answer.verdict.letter()]);
        to.number(answer.remaining);
    }
}

/// Writes an error, its texts cut to what there is room for.
pub fn write_fault(bytes: &mut [u8], fault: &Fault) {
    const MOST: usize = 2_000;
    let cut = |text: &str| (0..=text.len().min(MOST)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut to = Writer { bytes, at: 0 };
    to.put(&[ERROR, 0, 0, 0]);
    to.put(&fault.sqlstate.to_le_bytes());
    to.text(Some(&fault.message.as_bytes()[..cut(&fault.message)]));
    for text in [&fault.detail, &fault.hint] {
        to.text(text.as_deref().map(|text| &text.as_bytes()[..cut(text)]));
    }
}

/// What the worker has written.
pub fn read_reply(bytes: &[u8]) -> Option<Reply> {
    let mut from = Reader(bytes);
    let [kind, ..] = from.array::<4>()?;
    if kind == VERDICTS {
        let lines = u32::from_le_bytes(from.array()?);
        let answer = |from: &mut Reader| {
            let [letter] = from.array()?;
            Some(Answer { verdict: Verdict::of_letter(letter)?, remaining: from.number()? })
        };
        return (0..lines).map(|_| answer(&mut from)).collect::<Option<_>>().map(Reply::Told);
    }
    let sqlstate = i32::from_le_bytes(from.array()?);
    let owned = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let message = owned(from.text()??);
    let detail = from.text()?.map(owned);
    let hint = from.text()?.map(owned);
    (kind == ERROR).then_some(Reply::Failed(Fault { sqlstate, message, detail, hint }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let full = Request {
            relation: 16_385,
            identity: *b"sixteen bytes...",
            tenant: b"a tenant",
            order: Some(b"order 1"),
            items: vec![Some(b"a"), None, Some(b"")],
            quantities: vec![Some(1), Some(i64::MIN), None],
        };
        let none = Request { relation: 1, ..Default::default() };
        for request in [full, none] {
            let mut bytes = vec![0xAA; SIZE];
            assert!(write_request(&mut bytes, &request));
            assert_eq!(read_request(&bytes), Some(request));
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let long = vec![b'x'; SIZE];
        let request = Request { order: Some(&long), ..Default::default() };
        assert!(!write_request(&mut [0; SIZE], &request));
        // The request alone would fit, were it not for the answer.
        let many =
            |lines: usize| Request { items: vec![None; lines], quantities: vec![None; lines], ..Default::default() };
        let before_the_lines = 4 + 16 + 2 + 2 + 2;
        let most = (SIZE - before_the_lines) / 11;
        assert!(write_request(&mut [0; SIZE], &many(most)));
        assert!(!write_request(&mut [0; SIZE], &many(most + 1)));
        assert!(!write_request(&mut [0; SIZE], &Request { items: vec![None], ..Default::default() }));
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let answers = vec![
            Answer { verdict: Verdict::Accepted, remaining: Some(7) },
            Answer { verdict: Verdict::UnknownItem, remaining: None },
            Answer { verdict: Verdict::Conflict, remaining: Some(i64::MAX) },
        ];
        let mut bytes = vec![0xAA; SIZE];
        write_answers(&mut bytes, &answers);
        assert_eq!(read_reply(&bytes), Some(Reply::Told(answers)));
        let fault = Fault { sqlstate: 130, message: "no".into(), detail: None, hint: Some("try".into()) };
        write_fault(&mut bytes, &fault);
        assert_eq!(read_reply(&bytes), Some(Reply::Failed(fault)));
        let endless = Fault { message: "\u{e9}".repeat(SIZE), ..Default::default() };
        write_fault(&mut bytes, &endless);
        assert!(matches!(read_reply(&bytes), Some(Reply::Failed(fault)) if fault.message.len() == 2_000));
        assert_eq!(read_reply(&[0xAA; SIZE]), None);
    }
}
