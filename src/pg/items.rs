//! Items and quantities as parameters and results of statements.

use pgrx::datum::DatumWithOid;
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

/// The same, as a statement's parameter.
pub fn parameter(item_type: ItemType, items: &[&Item]) -> DatumWithOid<'static> {
    // SAFETY: an array of this type, in memory that lives until the statement has run.
    unsafe { DatumWithOid::new(array(item_type, items), array_type(item_type)) }
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

/// Texts as an array, in the current memory context.
pub fn texts(texts: &[Option<&[u8]>]) -> pg_sys::Datum {
    let values = texts.iter().map(|text| text.and_then(IntoDatum::into_datum)).collect();
    nullable(values, pg_sys::TEXTOID, -1, false, b'i')
}

/// Quantities, NULL or not, as an array, in the current memory context.
pub fn nullable_quantities(quantities: &[Option<i64>]) -> pg_sys::Datum {
    let values = quantities.iter().map(|quantity| quantity.map(pg_sys::Datum::from)).collect();
    nullable(values, pg_sys::INT8OID, 8, true, b'd')
}

fn nullable(
    elements: Vec<Option<pg_sys::Datum>>,
    of_type: pg_sys::Oid,
    length: i32,
    by_value: bool,
    align: u8,
) -> pg_sys::Datum {
    let mut nulls: Vec<bool> = elements.iter().map(Option::is_none).collect();
    let mut values: Vec<pg_sys::Datum> =
        elements.into_iter().map(|element| element.unwrap_or(pg_sys::Datum::null())).collect();
    let (mut size, mut lower) = ([values.len() as i32], [1]);
    // SAFETY: one dimension of that size; the values are of the element's type, which has this length and alignment. They are copied.
    unsafe {
        let array = pg_sys::construct_md_array(
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            size.as_mut_ptr(),
            lower.as_mut_ptr(),
            of_type,
            length,
            by_value,
            align as _,
        );
        array.into()
    }
}

/// The elements of an array of at most one dimension, in place; None for one of more.
///
/// # Safety
/// `datum` is an array of this element's type, and is not moved while the result is used.
pub(super) unsafe fn elements(datum: pg_sys::Datum, of_type: pg_sys::Oid) -> Option<Vec<Option<pg_sys::Datum>>> {
    let (length, by_value, align) = if of_type == pg_sys::INT8OID { (8, true, b'd') } else { (-1, false, b'i') };
    // SAFETY: the caller's promise; the array is copied where it was compressed or stored aside, and the two lists are palloc'd.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        if (*array).ndim > 1 {
            return None;
        }
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array, of_type, length, by_value, align as _, &mut values, &mut nulls, &mut count);
        let elements = (0..count as usize).map(|at| (!*nulls.add(at)).then(|| *values.add(at))).collect();
        if count > 0 {
            pg_sys::pfree(values.cast());
            pg_sys::pfree(nulls.cast());
        }
        Some(elements)
    }
}

/// The texts of an array, copied.
///
/// # Safety
/// `datum` is an array of texts.
pub(super) unsafe fn read_texts(datum: pg_sys::Datum) -> Vec<Option<Vec<u8>>> {
    // SAFETY: the caller's promise; a text lies in memory as a bytea does.
    unsafe {
        let elements = elements(datum, pg_sys::TEXTOID).unwrap_or_default();
        elements
            .into_iter()
            .map(|element| element.and_then(|datum| <&[u8]>::from_datum(datum, false)).map(<[u8]>::to_vec))
            .collect()
    }
}

/// The numbers of an array.
///
/// # Safety
/// `datum` is an array of bigints.
pub(super) unsafe fn read_quantities(datum: pg_sys::Datum) -> Vec<Option<i64>> {
    // SAFETY: the caller's promise.
    let elements = unsafe { elements(datum, pg_sys::INT8OID) }.unwrap_or_default();
    elements.into_iter().map(|element| element.map(|datum| datum.value() as i64)).collect()
}
