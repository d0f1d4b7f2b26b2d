//! Network addresses: `inet`, `cidr`, `macaddr`, `macaddr8`.

use super::pieces::{array_at, push_number};
use super::{TextContext, ValueError};

/// `inet_out`: the mask is left out where it covers the whole address.
pub(super) fn inet_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_address(value, false, out)
}

/// `cidr_out`: always with its mask.
pub(super) fn cidr_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_address(value, true, out)
}

/// u8 family (2 IPv4, 3 IPv6), u8 bits of the mask, the address in network order.
// pg: utils/inet.h inet_struct, utils/adt/network.c network_out, port/inet_net_ntop.c [14-18]
fn push_address(value: &[u8], always_mask: bool, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let [family, bits] = array_at(value, 0, "address family")?;
    let address = value.get(2..).unwrap_or_default();
    let whole = match (family, address.len()) {
        (2, 4) => 32,
        (3, 16) => 128,
        _ => {
            return Err(ValueError::invalid(
                "inet",
                "unknown family or wrong length",
            ));
        }
    };
    if bits > whole {
        return Err(ValueError::invalid(
            "inet",
            "the mask is longer than the address",
        ));
    }
    if family == 2 {
        push_ipv4(address, out);
    } else {
        push_ipv6(array_at(address, 0, "address")?, out);
    }
    if bits != whole || always_mask {
        out.push(b'/');
        push_number(out, bits);
    }
    Ok(())
}

fn push_ipv4(address: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in address.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        push_number(out, byte);
    }
}

/// The longest run of at least two zero words, the first of equals, becomes `::`. Addresses that
/// stand for IPv4 ones end in dotted form.
fn push_ipv6(address: [u8; 16], out: &mut Vec<u8>) {
    let mut words = [0u16; 8];
    for (word, pair) in words.iter_mut().zip(address.chunks_exact(2)) {
        *word = u16::from(pair[0]) << 8 | u16::from(pair[1]);
    }
    let zeros = longest_zeros(&words);
    let mapped = zeros.start == 0
        && match zeros.len() {
            6 => true,
            7 => words[7] != 1,
            5 => words[5] == 0xFFFF,
            _ => false,
        };
    for (index, word) in words.iter().enumerate() {
        if zeros.contains(&index) {
            if index == zeros.start {
                out.push(b':');
            }
            continue;
        }
        if index > 0 {
            out.push(b':');
        }
        if mapped && index == 6 {
            push_ipv4(&address[12..], out);
            return;
        }
        push_number(out, format_args!("{word:x}"));
    }
    if zeros.end == words.len() && !zeros.is_empty() {
        out.push(b':');
    }
}

fn longest_zeros(words: &[u16; 8]) -> std::ops::Range<usize> {
    let mut best = 8..8;
    let mut start = 0;
    for (index, word) in words.iter().enumerate() {
        if *word != 0 {
            start = index + 1;
        } else if index + 1 - start > best.len() {
            best = start..index + 1;
        }
    }
    if best.len() < 2 { 8..8 } else { best }
}

/// `macaddr_out`: six bytes.
pub(super) fn macaddr_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_mac(value, 6, "macaddr", out)
}

/// `macaddr8_out`: eight bytes.
pub(super) fn macaddr8_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_mac(value, 8, "macaddr8", out)
}

fn push_mac(
    value: &[u8],
    length: usize,
    type_name: &'static str,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if value.len() != length {
        return Err(ValueError::invalid(type_name, "wrong length"));
    }
    for (index, byte) in value.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        push_number(out, format_args!("{byte:02x}"));
    }
    Ok(())
}
