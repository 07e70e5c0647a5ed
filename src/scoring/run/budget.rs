//! What a run may take, and what it makes: operations and bytes are counted, and whoever runs it is asked now and then.

use super::{FUEL, PIECE, Run};
use crate::scoring::build;
use crate::scoring::fault::{Fault, Ran};
use crate::scoring::number::{Number, Outcome};
use crate::scoring::value::Value;

/// Long texts are copied in blocks.
const BLOCK: usize = 4_096;

impl<'a> Run<'a> {
    #[inline(always)]
    pub fn step(&mut self) -> Ran<()> {
        if self.fuel == 0 {
            self.refuel()?;
        }
        self.fuel -= 1;
        Ok(())
    }

    #[cold]
    fn refuel(&mut self) -> Ran<()> {
        if self.operations == 0 {
            return Err(Fault::Operations);
        }
        (self.limits.poll)();
        self.fuel = FUEL.min(u32::try_from(self.operations).unwrap_or(FUEL));
        self.operations -= u64::from(self.fuel);
        Ok(())
    }

    /// As many steps at once.
    pub fn spend(&mut self, steps: usize) -> Ran<()> {
        let mut left = steps;
        while left > 0 {
            if self.fuel == 0 {
                self.refuel()?;
            }
            let now = left.min(self.fuel as usize);
            self.fuel -= now as u32;
            left -= now;
        }
        Ok(())
    }

    /// Takes so many bytes from the budget, and the time to fill them.
    pub fn take(&mut self, bytes: usize) -> Ran<()> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Fault::Bytes)?;
        self.spend(bytes / 64)
    }

    pub fn settle(&mut self, outcome: Outcome) -> Ran<Number<'a>> {
        match outcome {
            Outcome::Small(number) => Ok(number),
            Outcome::Long(decimal) => {
                let bytes = build::long(&decimal);
                Ok(Number::Long(self.keep(&bytes)?))
            }
        }
    }

    pub fn keep(&mut self, bytes: &[u8]) -> Ran<&'a [u8]> {
        self.take(bytes.len())?;
        Ok(self.copied(bytes))
    }

    /// In the arena, for bytes that were taken from the budget.
    pub fn copied(&self, bytes: &[u8]) -> &'a [u8] {
        if bytes.len() <= PIECE {
            return self.arena.alloc_slice_copy(bytes);
        }
        let blocks = self.arena.alloc_slice_fill_with(bytes.len().div_ceil(BLOCK), |number| {
            if (number * BLOCK).is_multiple_of(PIECE) {
                (self.limits.poll)();
            }
            let from = &bytes[number * BLOCK..];
            let mut block = [0; BLOCK];
            let length = from.len().min(BLOCK);
            block[..length].copy_from_slice(&from[..length]);
            block
        });
        &blocks.as_flattened()[..bytes.len()]
    }

    pub fn keep_list(&mut self, list: &[Value<'a>]) -> Ran<Value<'a>> {
        self.take(size_of_val(list))?;
        Ok(Value::List(self.arena.alloc_slice_copy(list)))
    }
}
