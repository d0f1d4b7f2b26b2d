//! Full-page images: a page as it was, instead of a change to it.
//!
//! A stored image may lack a hole of zeros between line pointers and tuples, and may be
//! compressed. Images without the mark for replay are there for consistency checks only.
// pg: access/transam/xlogreader.c RestoreBlockImage [14-18]

use std::borrow::Cow;
use std::io::Read;

use redostream_protocol::value::decompress::{decompress_lz4, decompress_pglz};

use super::Replay;
use crate::catalog::CatalogError;
use crate::catalog::layout::oid;
use crate::catalog::pages::Page;
use crate::framing::record::{BlockRef, Image, ImageCompression, MAIN_FORK};
use crate::limits::HEAP_PAGE_BYTES;

pub(super) fn restore(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    for block in &record.blocks {
        let Some(image) = block.image.as_ref().filter(|image| image.apply) else {
            continue;
        };
        if block.fork != MAIN_FORK || !replay.store.keeps(block.node) {
            continue;
        }
        let mut page = decode(image).map_err(|problem| bad(replay, block, problem))?;
        if !page.is_new() {
            page.set_lsn(replay.end);
        }
        if !replay.store.file_mut(block.node).put(block.block, page) {
            return Err(bad(
                replay,
                block,
                "its block number is beyond any catalog's",
            ));
        }
        replay.restored |= 1 << block.id;
        replay.store.found(block.node, block.block);
        if replay.store.owner(block.node) == Some(oid::CLASS) {
            replay.store.learn_block(block.node, block.block);
        }
    }
    Ok(())
}

fn bad(replay: &Replay<'_, '_, '_>, block: &BlockRef<'_>, problem: &'static str) -> CatalogError {
    CatalogError::Image {
        lsn: replay.record.lsn,
        node: block.node,
        block: block.block,
        problem,
    }
}

/// The page that an image holds.
fn decode(image: &Image<'_>) -> Result<Page, &'static str> {
    let hole = usize::from(image.hole_bytes);
    let offset = usize::from(image.hole_offset);
    let wanted = HEAP_PAGE_BYTES
        .checked_sub(hole)
        .ok_or("its hole is larger than a page")?;
    let raw = match image.compression {
        ImageCompression::None => Cow::Borrowed(image.bytes),
        ImageCompression::Pglz => {
            let mut out = Vec::with_capacity(wanted);
            decompress_pglz(image.bytes, wanted, &mut out)
                .map_err(|_| "its pglz data is damaged")?;
            Cow::Owned(out)
        }
        ImageCompression::Lz4 => {
            let mut out = Vec::with_capacity(wanted);
            decompress_lz4(image.bytes, wanted, &mut out).map_err(|_| "its LZ4 data is damaged")?;
            Cow::Owned(out)
        }
        ImageCompression::Zstd => Cow::Owned(zstd(image.bytes, wanted)?),
    };
    if raw.len() != wanted || offset + hole > HEAP_PAGE_BYTES {
        return Err("it is not as long as it says");
    }
    if hole == 0 {
        return Page::from_bytes(&raw).ok_or("it is not one page");
    }
    let mut bytes = vec![0; HEAP_PAGE_BYTES];
    bytes[..offset].copy_from_slice(&raw[..offset]);
    bytes[offset + hole..].copy_from_slice(&raw[offset..]);
    Page::from_bytes(&bytes).ok_or("it is not one page")
}

fn zstd(bytes: &[u8], wanted: usize) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "its zstd data is damaged";
    let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| BAD)?;
    let mut out = Vec::with_capacity(wanted);
    // One byte more than wanted is enough to see that it is too long.
    let mut limited = decoder.take(wanted as u64 + 1);
    limited.read_to_end(&mut out).map_err(|_| BAD)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: &[u8], compression: ImageCompression, hole: (u16, u16)) -> Image<'_> {
        Image {
            bytes,
            hole_offset: hole.0,
            hole_bytes: hole.1,
            compression,
            apply: true,
        }
    }

    fn page() -> Page {
        let mut page = Page::empty();
        page.add(1, &[7; 60]).unwrap();
        page
    }

    #[test]
    fn holes_and_compression() {
        let whole = page().bytes().to_vec();
        let (lower, upper) = (28, 8192 - 64);
        let cut = [&whole[..lower], &whole[upper..]].concat();
        let hole = (lower as u16, (upper - lower) as u16);
        let none = ImageCompression::None;
        assert_eq!(decode(&image(&whole, none, (0, 0))), Ok(page()));
        assert_eq!(decode(&image(&cut, none, hole)), Ok(page()));
        let lz4 = lz4_flex::block::compress(&cut);
        assert_eq!(
            decode(&image(&lz4, ImageCompression::Lz4, hole)),
            Ok(page())
        );
        // A zstd frame of one raw block.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, cut.len() as u8];
        let header = (cut.len() as u32) << 3 | 1;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(&cut);
        assert_eq!(
            decode(&image(&frame, ImageCompression::Zstd, hole)),
            Ok(page())
        );
        for compression in [
            none,
            ImageCompression::Pglz,
            ImageCompression::Lz4,
            ImageCompression::Zstd,
        ] {
            decode(&image(&[1, 2, 3], compression, hole)).unwrap_err();
            decode(&image(&[], compression, (0, 0))).unwrap_err();
        }
        decode(&image(&cut, none, (8000, hole.1))).unwrap_err();
    }
}
