//! Arrays in catalog rows.

use redostream_protocol::schema::Name;

use super::super::tuple::{Storage, stored_range};

/// The elements of a one-dimensional `text[]` without nulls.
///
/// ```text
/// dimensions i32 | data offset i32, 0 without nulls | element type u32 | size i32 | lower i32 |
/// elements, each a varlena aligned to 4
/// ```
// pg: utils/array.h ArrayType [14-18]
pub(crate) fn texts(array: &[u8]) -> Vec<Name> {
    const HEADER_BYTES: usize = 20;
    const TEXT: Storage = Storage {
        length: -1,
        align: 4,
    };
    let data = array.get(HEADER_BYTES..).unwrap_or_default();
    let mut texts = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let Ok((start, end)) = stored_range(data, at, TEXT) else {
            break;
        };
        let stored = &data[start..end];
        let header = match stored.first() {
            Some(first) if first & 1 == 1 => 1,
            _ => 4,
        };
        texts.push(Name::from(stored.get(header..).unwrap_or_default()));
        at = end;
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_an_array() {
        let mut array = Vec::new();
        for word in [1_u32, 0, 25, 2, 1] {
            array.extend_from_slice(&word.to_le_bytes());
        }
        array.extend_from_slice(&(7_u32 << 2).to_le_bytes());
        array.extend_from_slice(b"a=b\0");
        array.extend_from_slice(&(5_u32 << 2).to_le_bytes());
        array.extend_from_slice(b"c");
        assert_eq!(texts(&array), [Name::from("a=b"), Name::from("c")]);
        assert_eq!(texts(&[]), []);
        for cut in 0..array.len() {
            assert!(texts(&array[..cut]).len() < 2);
        }
    }
}
