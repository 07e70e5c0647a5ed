//! Compiled programs by the digest of what they were compiled from, so that none can be old; those that were not asked for longest go first. Pure Rust.

use std::collections::HashMap;
use std::rc::Rc;

use super::program::Program;

pub type Digest = [u8; 32];

struct Kept {
    program: Rc<Program>,
    size: usize,
    used: u64,
}

pub struct Cache {
    kept: HashMap<Digest, Kept>,
    most: usize,
    size: usize,
    clock: u64,
}

impl Cache {
    /// `most`: bytes.
    pub fn new(most: usize) -> Cache {
        Cache { kept: HashMap::new(), most, size: 0, clock: 0 }
    }

    pub fn get(&mut self, digest: &Digest) -> Option<Rc<Program>> {
        self.clock += 1;
        let kept = self.kept.get_mut(digest)?;
        kept.used = self.clock;
        Some(Rc::clone(&kept.program))
    }

    /// Keeps a program, and lets others go until there is room. One that is too large by itself is not kept.
    pub fn put(&mut self, digest: Digest, program: Rc<Program>) {
        let size = program.size();
        if size > self.most {
            return;
        }
        self.clock += 1;
        if let Some(former) = self.kept.insert(digest, Kept { program, size, used: self.clock }) {
            self.size -= former.size;
        }
        self.size += size;
        while self.size > self.most {
            let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(digest, _)| *digest) else {
                return;
            };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.size -= gone.size;
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.kept.len()
    }
}
