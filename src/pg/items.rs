//! Items and quantities as parameters and results of statements.

use pgrx::prelude::*;

use crate::inventory::item::{Item, ItemType};

/// The type of the items' array.
pub fn array_type(item_type: ItemType) -> pg_sys::Oid {
    match item_type {
        ItemType::Uuid => pg_sys::UUIDARRAYOID,
        ItemType::Text => pg_sys::TEXTARRAYOID,
        ItemType::Integer => pg_sys::INT4ARRAYOID,
        ItemType::Bigint => pg_sys::INT8ARRAYOID,
    }
}

/// Items as an array, in the current memory context.
pub fn array(item_type: ItemType, items: &[&Item]) -> pg_sys::Datum {
    let (element, length, by_value, align) = match item_type {
        ItemType::Uuid => (pg_sys::UUIDOID, 16, false, b'c'),
        ItemType::Text => (pg_sys::TEXTOID, -1, false, b'i'),
        ItemType::Integer => (pg_sys::INT4OID, 4, true, b'i'),
        ItemType::Bigint => (pg_sys::INT8OID, 8, true, b'd'),
    };
    let datum = |item: &&Item| match item {
        Item::Uuid(bytes) => pg_sys::Datum::from(bytes.as_ptr()),
        Item::Number(number) => pg_sys::Datum::from(*number),
        Item::Text(bytes) | Item::Foreign(bytes) => (&**bytes).into_datum().unwrap_or(pg_sys::Datum::null()),
    };
    let mut values: Vec<pg_sys::Datum> = items.iter().map(datum).collect();
    // SAFETY: the values are of the element's type, which has this length and alignment; a text lies in memory as a bytea does. They are copied.
    unsafe { construct(&mut values, element, length, by_value, align) }
}

/// Quantities as an array, in the current memory context.
pub fn quantities(quantities: &[i64]) -> pg_sys::Datum {
    let mut values: Vec<pg_sys::Datum> = quantities.iter().map(|quantity| pg_sys::Datum::from(*quantity)).collect();
    // SAFETY: as above.
    unsafe { construct(&mut values, pg_sys::INT8OID, 8, true, b'd') }
}

/// # Safety
/// The values are of the element's type, which has this length and alignment.
unsafe fn construct(
    values: &mut [pg_sys::Datum],
    element: pg_sys::Oid,
    length: i32,
    by_value: bool,
    align: u8,
) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    unsafe {
        pg_sys::construct_array(values.as_mut_ptr(), values.len() as i32, element, length, by_value, align as _).into()
    }
}

/// An item of the column, as a statement returned it.
pub fn read(item_type: ItemType, datum: pg_sys::Datum) -> Item {
    // SAFETY: the datum is of the column's base type: the statement says so.
    unsafe {
        match item_type {
            ItemType::Uuid => {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), 16));
                Item::Uuid(bytes)
            }
            ItemType::Text => Item::Text(<&[u8]>::from_datum(datum, false).unwrap_or_default().into()),
            ItemType::Integer => Item::Number(i64::from(datum.value() as i32)),
            ItemType::Bigint => Item::Number(datum.value() as i64),
        }
    }
}
