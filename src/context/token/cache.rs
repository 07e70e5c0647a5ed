//! Tokens that were verified lately, so that the same one costs a look-up the next time.
//!
//! Bounded in number and in bytes; the one not used for longest makes room. A token is found by all of its bytes: two tokens
//! that differ anywhere are two tokens.

use std::rc::Rc;

use super::Verified;

const ENTRIES: usize = 64;
const BYTES: usize = 256 * 1024;

struct Entry {
    token: Box<[u8]>,
    verified: Rc<Verified>,
    size: usize,
    used: u64,
}

pub struct Cache {
    entries: Vec<Entry>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    pub const fn new() -> Cache {
        Cache { entries: Vec::new(), bytes: 0, clock: 0 }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    pub fn find(&mut self, token: &[u8]) -> Option<Rc<Verified>> {
        self.clock += 1;
        let end = tail(token);
        let found = self.entries.iter_mut().find(|entry| tail(&entry.token) == end && *entry.token == *token)?;
        found.used = self.clock;
        Some(Rc::clone(&found.verified))
    }

    /// Keeps a token that `find` did not find.
    pub fn keep(&mut self, token: &[u8], verified: &Rc<Verified>) {
        // What was parsed from a token, and the jsonb that may be made of it, are a few times as large.
        let size = token.len() * 4 + size_of::<Verified>();
        while !self.entries.is_empty() && (self.entries.len() >= ENTRIES || self.bytes + size > BYTES) {
            self.drop_oldest();
        }
        self.bytes += size;
        self.clock += 1;
        self.entries.push(Entry { token: token.into(), verified: Rc::clone(verified), size, used: self.clock });
    }

    fn drop_oldest(&mut self) {
        if let Some((at, _)) = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used) {
            self.bytes -= self.entries.swap_remove(at).size;
        }
    }
}

/// The last bytes: those of the signature, in which tokens differ first.
fn tail(token: &[u8]) -> &[u8] {
    &token[token.len().saturating_sub(16)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(subject: &str) -> Rc<Verified> {
        Rc::new(Verified { subject: Some(subject.to_owned()), ..Verified::default() })
    }

    fn subject(cache: &mut Cache, token: &[u8]) -> Option<String> {
        cache.find(token).and_then(|verified| verified.subject.clone())
    }

    #[test]
    fn a_token_is_found_by_all_of_its_bytes() {
        let mut cache = Cache::new();
        let long = "x".repeat(100);
        cache.keep(format!("a{long}").as_bytes(), &verified("a"));
        cache.keep(format!("b{long}").as_bytes(), &verified("b"));
        assert_eq!(subject(&mut cache, format!("a{long}").as_bytes()).as_deref(), Some("a"));
        assert_eq!(subject(&mut cache, format!("b{long}").as_bytes()).as_deref(), Some("b"));
        assert_eq!(subject(&mut cache, format!("c{long}").as_bytes()), None);
        assert_eq!(subject(&mut cache, long.as_bytes()), None);
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let mut cache = Cache::new();
        for n in 0..ENTRIES {
            cache.keep(n.to_string().as_bytes(), &verified("x"));
        }
        assert!(cache.find(b"0").is_some());
        cache.keep(b"new", &verified("new"));
        assert!(cache.find(b"0").is_some() && cache.find(b"new").is_some() && cache.find(b"1").is_none());
        assert_eq!(cache.entries.len(), ENTRIES);
    }

    #[test]
    fn bytes_are_bounded_whatever_comes() {
        let mut cache = Cache::new();
        for n in 0..10_000usize {
            let token = format!("{n}{}", "x".repeat(n * 7 % 16_000));
            cache.keep(token.as_bytes(), &verified("x"));
            assert!(cache.bytes <= BYTES.max(16_010 * 4 + size_of::<Verified>()) && cache.entries.len() <= ENTRIES);
            assert!(cache.find(token.as_bytes()).is_some());
        }
        assert_eq!(cache.bytes, cache.entries.iter().map(|entry| entry.size).sum::<usize>());
        cache.clear();
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }
}
