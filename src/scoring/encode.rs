//! Numbers as the server stores them. Pure Rust.

use super::decimal::Decimal;
use super::number::{
    NEGATIVE, Number, POWERS, SCALE_MASK, SHORT, SHORT_NEGATIVE, SHORT_SCALE_SHIFT, SHORT_WEIGHT_MASK,
    SHORT_WEIGHT_SIGN,
};

/// The server's bytes of a decimal, without their length.
pub fn encode(decimal: &Decimal, out: &mut Vec<u8>) {
    let negative = decimal.negative;
    if decimal.scale <= 0x3F && (-64..=63).contains(&decimal.weight) {
        let header = SHORT
            | if negative { SHORT_NEGATIVE } else { 0 }
            | (decimal.scale as u16) << SHORT_SCALE_SHIFT
            | (decimal.weight as u16 & (SHORT_WEIGHT_SIGN | SHORT_WEIGHT_MASK));
        out.extend_from_slice(&header.to_ne_bytes());
    } else {
        let header = if negative { NEGATIVE } else { 0 } | decimal.scale as u16 & SCALE_MASK;
        out.extend_from_slice(&header.to_ne_bytes());
        out.extend_from_slice(&(decimal.weight as i16).to_ne_bytes());
    }
    for digit in &decimal.digits {
        out.extend_from_slice(&digit.to_ne_bytes());
    }
}

/// The server's bytes of a number, without their length.
pub struct Encoded {
    bytes: [u8; 24],
    length: usize,
}

impl Encoded {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Of a small number: no memory is asked for.
    pub fn small(number: &Number) -> Option<Encoded> {
        let (mantissa, scale) = number.scaled()?;
        let mut groups = [0u16; 8];
        let mut count = 0;
        let mut left = mantissa.unsigned_abs();
        let odd = scale % 4;
        if odd != 0 {
            let unit = POWERS[odd as usize] as u64;
            groups[0] = (left % unit) as u16 * POWERS[4 - odd as usize] as u16;
            left /= unit;
            count = 1;
        }
        while left != 0 {
            groups[count] = (left % 10_000) as u16;
            left /= 10_000;
            count += 1;
        }
        let weight = count as i32 - 1 - scale.div_ceil(4) as i32;
        let mut first = count;
        while first > 0 && groups[first - 1] == 0 {
            first -= 1;
        }
        let weight = if first == 0 { 0 } else { weight - (count - first) as i32 };
        let last = groups[..first].iter().take_while(|group| **group == 0).count();
        let header = SHORT
            | if mantissa < 0 { SHORT_NEGATIVE } else { 0 }
            | (scale as u16) << SHORT_SCALE_SHIFT
            | (weight as u16 & (SHORT_WEIGHT_SIGN | SHORT_WEIGHT_MASK));
        let mut encoded = Encoded { bytes: [0; 24], length: 2 };
        encoded.bytes[..2].copy_from_slice(&header.to_ne_bytes());
        for group in groups[last..first].iter().rev() {
            encoded.bytes[encoded.length..encoded.length + 2].copy_from_slice(&group.to_ne_bytes());
            encoded.length += 2;
        }
        Some(encoded)
    }
}
