//! Walks a heap tuple as logged, attribute by attribute, and appends its columns in wire form.
//!
//! ```text
//! logged:  infomask2 u16 | infomask u16 | hoff u8 | [null bitmap, padding] | attributes
//! ```
//! The bitmap and padding fill the tuple header from byte 23 to `hoff`; attributes are aligned
//! from there.
// pg: access/htup_details.h, access/common/heaptuple.c heap_deform_tuple [14-18]

use redostream_protocol::event::{
    CompressionMethod, TAG_NULL, ToastPointer, push_compressed, push_external, push_value,
};

use super::TupleError;
use super::names::push_named;
use super::row_bytes::{RowBytes, align};
use super::task::Names;
use crate::catalog::relation::{Attribute, Layout};
use crate::framing::page::{u16_at, u32_at};

/// Bytes of `xl_heap_header`.
// pg: access/heapam_xlog.h SizeOfHeapHeader [14-18]
pub(crate) const LOGGED_HEADER_BYTES: usize = 5;
/// Bytes of a tuple's header before the null bitmap.
// pg: access/htup_details.h SizeofHeapTupleHeader [14-18]
const TUPLE_HEADER_BYTES: usize = 23;

const ATTRIBUTES_MASK: u16 = 0x07FF;
const HAS_NULL: u16 = 0x0001;

/// `VARTAG_ONDISK`, and the bytes of a pointer with its two header bytes.
// pg: varatt.h vartag_external [14-18]
const VARTAG_ONDISK: u8 = 18;
const POINTER_BYTES: usize = 18;

/// A tuple as logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedTuple<'a> {
    infomask2: u16,
    infomask: u16,
    hoff: u8,
    /// Null bitmap, padding, attributes.
    data: &'a [u8],
}

impl<'a> LoggedTuple<'a> {
    /// Reads `xl_heap_header` and what follows it.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, TupleError> {
        let (header, data) = bytes
            .split_at_checked(LOGGED_HEADER_BYTES)
            .ok_or(TupleError::Short("tuple header"))?;
        Ok(Self::from_header(header, data))
    }

    /// From a header's 5 bytes and the data behind it.
    #[inline]
    pub(crate) fn from_header(header: &[u8], data: &'a [u8]) -> Self {
        LoggedTuple {
            infomask2: u16_at(header, 0),
            infomask: u16_at(header, 2),
            hoff: header[4],
            data,
        }
    }

    /// Splits into the null bitmap (empty if there are no nulls) and the attributes' bytes.
    #[inline]
    pub(crate) fn split(&self) -> Result<(usize, &'a [u8], &'a [u8]), TupleError> {
        let count = usize::from(self.infomask2 & ATTRIBUTES_MASK);
        let bad = TupleError::HeaderOffset(self.hoff);
        let head = usize::from(self.hoff)
            .checked_sub(TUPLE_HEADER_BYTES)
            .ok_or(bad)?;
        let (head, values) = self.data.split_at_checked(head).ok_or(bad)?;
        let bitmap = if self.infomask & HAS_NULL != 0 {
            head.get(..count.div_ceil(8)).ok_or(bad)?
        } else {
            &[]
        };
        Ok((count, bitmap, values))
    }
}

/// Appends the columns of `tuple`. Returns whether one is a TOAST pointer. With `names`, values
/// whose text depends on catalog rows are written as text.
#[inline(always)]
pub(crate) fn push_columns(
    layout: &Layout,
    tuple: LoggedTuple<'_>,
    names: Option<Names<'_>>,
    out: &mut Vec<u8>,
) -> Result<bool, TupleError> {
    match names {
        None => push_stored(layout, tuple, out),
        Some(names) => push_with_names(layout, tuple, names, out),
    }
}

#[cold]
fn push_with_names(
    layout: &Layout,
    tuple: LoggedTuple<'_>,
    names: Names<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, TupleError> {
    let mut stored = Vec::new();
    let external = push_stored(layout, tuple, &mut stored)?;
    push_named(layout, &stored, names, out)?;
    Ok(external)
}

/// Appends the columns as stored.
fn push_stored(
    layout: &Layout,
    tuple: LoggedTuple<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, TupleError> {
    let (count, bitmap, values) = tuple.split()?;
    let Some(stored) = layout.attributes.get(..count) else {
        let relation = layout.attributes.len();
        return Err(TupleError::TooManyAttributes {
            tuple: count,
            relation,
        });
    };
    let mut walk = TupleWalk {
        values,
        at: 0,
        external: false,
        out: RowBytes::new(out, count, values.len()),
    };
    let mut number = 0;
    loop {
        let from = (number, walk.at);
        (number, walk.at) = if bitmap.is_empty() {
            walk.out.plain::<false>(stored, bitmap, values, from)
        } else {
            walk.out.plain::<true>(stored, bitmap, values, from)
        };
        let Some(attribute) = stored.get(number) else {
            break;
        };
        walk.attribute(attribute, number)?;
        number += 1;
    }
    walk.out.settle();
    let (at, external) = (walk.at, walk.external);
    if at != values.len() {
        return Err(TupleError::Leftover(values.len() - at));
    }
    for attribute in layout.attributes.get(count..).unwrap_or_default() {
        push_missing(attribute, out);
    }
    Ok(external)
}

/// An attribute that the tuple was written before: its missing value, or null.
fn push_missing(attribute: &Attribute, out: &mut Vec<u8>) {
    if attribute.column.is_none() {
        return;
    }
    match &attribute.missing {
        Some(value) => push_value(out, value),
        None => out.push(TAG_NULL),
    }
}

/// The way through a tuple's attributes.
struct TupleWalk<'a, 'o> {
    values: &'a [u8],
    at: usize,
    /// Whether a TOAST pointer was met.
    external: bool,
    out: RowBytes<'o>,
}

impl TupleWalk<'_, '_> {
    /// Any attribute that has a value.
    #[inline]
    fn attribute(&mut self, attribute: &Attribute, number: usize) -> Result<(), TupleError> {
        match attribute.length {
            -1 => self.varlena(attribute, number),
            length if length > 0 => {
                let start = align(self.at, attribute.align);
                self.take(attribute, number, start, length as usize)
            }
            _ => self.text(attribute, number),
        }
    }

    /// A value of `length` bytes from `start` on.
    #[inline]
    fn take(
        &mut self,
        attribute: &Attribute,
        number: usize,
        start: usize,
        length: usize,
    ) -> Result<(), TupleError> {
        let end = start + length;
        let value = self.values.get(start..end);
        let value = value.ok_or(TupleError::Overrun(number + 1))?;
        self.at = end;
        if attribute.column.is_some() {
            self.out.value(value);
        }
        Ok(())
    }

    /// A C string.
    fn text(&mut self, attribute: &Attribute, number: usize) -> Result<(), TupleError> {
        let start = align(self.at, attribute.align);
        let overrun = TupleError::Overrun(number + 1);
        let rest = self.values.get(start..).ok_or(overrun)?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(overrun)?;
        self.take(attribute, number, start, end)?;
        self.at += 1;
        Ok(())
    }

    /// A varlena: short, plain, compressed, or a pointer to TOAST.
    // pg: varatt.h [14-18]; byte order is little-endian
    #[inline]
    fn varlena(&mut self, attribute: &Attribute, number: usize) -> Result<(), TupleError> {
        let first = *self
            .values
            .get(self.at)
            .ok_or(TupleError::Overrun(number + 1))?;
        // A byte that is not padding begins a header that is not aligned, or is already.
        if first & 1 == 1 && first != 1 {
            let size = usize::from(first >> 1);
            return self.take(attribute, number, self.at + 1, size - 1);
        }
        self.long_varlena(attribute, number, first)
    }

    #[inline]
    fn long_varlena(
        &mut self,
        attribute: &Attribute,
        number: usize,
        first: u8,
    ) -> Result<(), TupleError> {
        let overrun = TupleError::Overrun(number + 1);
        let bad = TupleError::Varlena(number + 1);
        let (values, live) = (self.values, attribute.column.is_some());
        if first == 1 {
            let pointer = values
                .get(self.at..self.at + POINTER_BYTES)
                .ok_or(overrun)?;
            let pointer = read_pointer(pointer).ok_or(bad)?;
            self.at += POINTER_BYTES;
            if live {
                self.external = true;
                self.out.push(|out| push_external(out, pointer));
            }
            return Ok(());
        }
        let start = if first == 0 {
            align(self.at, attribute.align)
        } else {
            self.at
        };
        let header = u32_at(values.get(start..start + 4).ok_or(overrun)?, 0);
        let size = (header >> 2) as usize;
        if header & 1 == 1 || size < 4 {
            return Err(bad);
        }
        if header & 2 == 0 {
            return self.take(attribute, number, start + 4, size - 4);
        }
        let value = values.get(start + 4..start + size).ok_or(overrun)?;
        self.at = start + size;
        if live {
            let info = u32_at(value.get(..4).ok_or(bad)?, 0);
            let method = compression_method(info >> 30).ok_or(bad)?;
            self.out
                .push(|out| push_compressed(out, method, info & 0x3FFF_FFFF, &value[4..]));
        }
        Ok(())
    }
}

fn compression_method(number: u32) -> Option<CompressionMethod> {
    match number {
        0 => Some(CompressionMethod::Pglz),
        1 => Some(CompressionMethod::Lz4),
        _ => None,
    }
}

fn read_pointer(bytes: &[u8]) -> Option<ToastPointer> {
    (bytes[1] == VARTAG_ONDISK).then(|| ToastPointer {
        raw_size: u32_at(bytes, 2),
        stored: u32_at(bytes, 6),
        value: u32_at(bytes, 10),
        relation: u32_at(bytes, 14),
    })
}
