//! Decimal and hexadecimal digits, appended without allocation.

const PAIRS: &[u8; 200] = b"00010203040506070809101112131415161718192021222324252627282930313233\
3435363738394041424344454647484950515253545556575859606162636465666768697071727374757677787980818283\
84858687888990919293949596979899";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `number` in decimal.
pub(crate) fn push_u64(out: &mut Vec<u8>, number: u64) {
    push_padded(out, number, 1);
}

/// Appends `number` in decimal, with its sign if negative.
pub(crate) fn push_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_padded(out, number.unsigned_abs(), 1);
}

/// Appends `number` in decimal with at least `width` digits (20 at most).
pub(crate) fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number >= 10 {
        let pair = number as usize * 2;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + number as u8;
    }
    let at = at.min(buffer.len().saturating_sub(width));
    out.extend_from_slice(&buffer[at..]);
}

/// Appends bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    let (pairs, _) = out[start..].as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0x0F)]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_the_standard_library_does() {
        for number in [
            0,
            1,
            9,
            10,
            99,
            100,
            101,
            12345,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut out = Vec::new();
            push_u64(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for number in [i64::MIN, -1, 0, i64::MAX] {
            let mut out = Vec::new();
            push_i64(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        let mut out = Vec::new();
        push_padded(&mut out, 7, 2);
        push_padded(&mut out, 123, 2);
        push_padded(&mut out, 0, 4);
        push_hex(&mut out, &[0x0F, 0xA0]);
        assert_eq!(out, b"0712300000fa0");
    }
}
