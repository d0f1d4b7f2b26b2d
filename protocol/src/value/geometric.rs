//! Geometric types, and `cube`: all made of doubles, printed in their shortest exact form.

use super::float::push_float8;
use super::pieces::{array_at, u32_at};
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

const POINT_BYTES: usize = 16;

fn push_double(out: &mut Vec<u8>, value: &[u8], offset: usize) -> Result<(), ValueError> {
    let bits = array_at(value, offset, "coordinate")?;
    push_float8(out, f64::from_le_bytes(bits));
    Ok(())
}

/// Prints `count` doubles from `offset` on.
fn push_doubles(
    out: &mut Vec<u8>,
    value: &[u8],
    offset: usize,
    count: usize,
    separator: &[u8],
) -> Result<(), ValueError> {
    for index in 0..count {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        push_double(out, value, offset + 8 * index)?;
    }
    Ok(())
}

/// Prints points `(x,y)` with commas between them; `points` must be whole points.
fn push_points(out: &mut Vec<u8>, points: &[u8]) -> Result<(), ValueError> {
    for (index, point) in points.chunks(POINT_BYTES).enumerate() {
        out.extend_from_slice(if index > 0 { b",(" } else { b"(" });
        push_doubles(out, point, 0, 2, b",")?;
        out.push(b')');
    }
    Ok(())
}

/// The points of a value of a fixed number of them.
fn fixed_points<'a>(
    value: &'a [u8],
    count: usize,
    type_name: &'static str,
) -> Result<&'a [u8], ValueError> {
    if value.len() != count * POINT_BYTES {
        return Err(ValueError::invalid(type_name, "wrong length"));
    }
    Ok(value)
}

/// The `count` points from `offset` to the end of a value.
fn counted_points<'a>(
    value: &'a [u8],
    count: u32,
    offset: usize,
    type_name: &'static str,
) -> Result<&'a [u8], ValueError> {
    let points = value.get(offset..).unwrap_or_default();
    if count as usize != points.len() / POINT_BYTES || !points.len().is_multiple_of(POINT_BYTES) {
        return Err(ValueError::invalid(
            type_name,
            "its length is not that of its points",
        ));
    }
    Ok(points)
}

/// `point_out`: two doubles.
// pg: utils/geo_decls.h, utils/adt/geo_ops.c path_encode [14-18], also for those below
pub(super) fn point_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_points(out, fixed_points(value, 1, "point")?)
}

/// `lseg_out`: two points.
pub(super) fn lseg_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.push(b'[');
    push_points(out, fixed_points(value, 2, "lseg")?)?;
    out.push(b']');
    Ok(())
}

/// `box_out`: the upper right and the lower left corner.
pub(super) fn box_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_points(out, fixed_points(value, 2, "box")?)
}

/// `path_out`: i32 points, i32 closed, i32 unused, then the points.
pub(super) fn path_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut header = Cursor::new(value);
    let count = header.u32("number of points")?;
    let closed = header.u32("path closed")? != 0;
    out.push(if closed { b'(' } else { b'[' });
    push_points(out, counted_points(value, count, 12, "path")?)?;
    out.push(if closed { b')' } else { b']' });
    Ok(())
}

/// `poly_out`: i32 points, the bounding box (two points), then the points.
pub(super) fn polygon_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let count = u32_at(value, 0, "number of points")?;
    out.push(b'(');
    push_points(out, counted_points(value, count, 36, "polygon")?)?;
    out.push(b')');
    Ok(())
}

/// `line_out`: three doubles.
pub(super) fn line_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if value.len() != 24 {
        return Err(ValueError::invalid("line", "wrong length"));
    }
    out.push(b'{');
    push_doubles(out, value, 0, 3, b",")?;
    out.push(b'}');
    Ok(())
}

/// `circle_out`: the centre, then the radius.
pub(super) fn circle_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if value.len() != 24 {
        return Err(ValueError::invalid("circle", "wrong length"));
    }
    out.extend_from_slice(b"<(");
    push_doubles(out, value, 0, 2, b",")?;
    out.extend_from_slice(b"),");
    push_double(out, value, 16)?;
    out.push(b'>');
    Ok(())
}

/// Bit of a cube's header: it is a point, so its second corner is not stored.
const CUBE_POINT: u32 = 1 << 31;

/// `cube_out`: u32 dimensions with a bit for points, the lower left corner, the upper right one.
// pg: contrib/cube/cubedata.h NDBOX, contrib/cube/cube.c cube_out [14-18]
pub(super) fn cube_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let header = u32_at(value, 0, "cube header")?;
    let dimensions = (header & !CUBE_POINT) as usize;
    let corners = value.get(4..).unwrap_or_default();
    let stored = if header & CUBE_POINT != 0 { 1 } else { 2 };
    if dimensions.checked_mul(8 * stored) != Some(corners.len()) {
        return Err(ValueError::invalid(
            "cube",
            "its length is not that of its coordinates",
        ));
    }
    let (lower, upper) = corners.split_at(8 * dimensions);
    out.push(b'(');
    push_doubles(out, lower, 0, dimensions, b", ")?;
    out.push(b')');
    // Without the bit, as old versions stored it, a cube may still be a point.
    if stored == 2 && !same_doubles(lower, upper) {
        out.extend_from_slice(b",(");
        push_doubles(out, upper, 0, dimensions, b", ")?;
        out.push(b')');
    }
    Ok(())
}

/// Whether two runs of doubles are equal as numbers: 0 equals -0, NaN does not equal itself.
fn same_doubles(left: &[u8], right: &[u8]) -> bool {
    let doubles = |run: &[u8]| {
        run.chunks_exact(8)
            .filter_map(|bits| bits.try_into().ok().map(f64::from_le_bytes))
            .collect::<Vec<_>>()
    };
    doubles(left) == doubles(right)
}
