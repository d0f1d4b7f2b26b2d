//! Pruning: line pointers are redirected, killed and freed, tuples frozen, the page tidied up.
//!
//! ```text
//! 14-16, main: horizon u32, nredirected u16, ndead u16 [, isCatalogRel (16)]
//!        block 0: nredirected x (from u16, to u16), ndead x u16, the rest: freed x u16
//! 17 on, main: reason u8, flags u8 [, horizon u32, not aligned]
//!        block 0, each part if its flag is set:
//!          0x10 nplans u16, pad, nplans x (xmax u32, infomask2 u16, infomask u16, frzflags u8,
//!               pad, ntuples u16)
//!          0x20 n u16, n x (from u16, to u16)      0x40 n u16, n x dead u16
//!          0x80 n u16, n x freed u16               0x10 the line pointers of the plans
//! ```
// pg: access/heapam_xlog.h xl_heap_prune, xlhp_* [14-18]

use redostream_protocol::Cursor;
use redostream_protocol::cursor::ShortInput;

use super::freeze::{Plan, freeze};
use super::{ApplyError, Replay, offsets};
use crate::catalog::CatalogError;
use crate::catalog::pages::Page;

const NAME: &str = "prune";
const HAS_FREEZE_PLANS: u8 = 0x10;
const HAS_REDIRECTIONS: u8 = 0x20;
const HAS_DEAD: u8 = 0x40;
const HAS_UNUSED: u8 = 0x80;

/// What is done to line pointers.
#[derive(Debug, Default)]
struct Pointers {
    /// From, to, from, to ...
    redirected: Vec<u16>,
    dead: Vec<u16>,
    unused: Vec<u16>,
}

impl Pointers {
    // pg: access/heap/pruneheap.c heap_page_prune_execute [14-18]
    fn apply(&self, page: &mut Page) -> Result<(), ApplyError> {
        for pair in self.redirected.chunks_exact(2) {
            page.redirect(pair[0], pair[1])?;
        }
        for offset in &self.dead {
            page.set_dead(*offset)?;
        }
        for offset in &self.unused {
            page.set_unused(*offset)?;
        }
        Ok(page.compact()?)
    }
}

/// 14 to 16.
pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = replay.block(0, NAME)?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    main.take(4, "horizon").map_err(&error)?;
    let redirected = main.u16("number redirected").map_err(&error)?;
    let dead = main.u16("number dead").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        let mut data = Cursor::new(block.data);
        let pointers = Pointers {
            redirected: offsets(&mut data, usize::from(redirected) * 2)?,
            dead: offsets(&mut data, usize::from(dead))?,
            unused: rest(&mut data)?,
        };
        pointers.apply(page)
    })
}

/// 17 on: prune, vacuum and freeze in one.
pub(super) fn apply_unified(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = replay.block(0, NAME)?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    main.take(1, "reason").map_err(&error)?;
    let flags = main.u8("flags").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        let mut data = Cursor::new(block.data);
        let mut plans = Vec::new();
        if flags & HAS_FREEZE_PLANS != 0 {
            let count = data.u16("number of plans")?;
            data.take(2, "padding")?;
            for _ in 0..count {
                plans.push(Plan::parse(&mut data)?);
            }
        }
        let mut listed = |flag, width| -> Result<Vec<u16>, ShortInput> {
            if flags & flag == 0 {
                return Ok(Vec::new());
            }
            let count = usize::from(data.u16("number of line pointers")?);
            offsets(&mut data, count * width)
        };
        let pointers = Pointers {
            redirected: listed(HAS_REDIRECTIONS, 2)?,
            dead: listed(HAS_DEAD, 1)?,
            unused: listed(HAS_UNUSED, 1)?,
        };
        pointers.apply(page)?;
        for plan in plans {
            for offset in offsets(&mut data, usize::from(plan.tuples))? {
                freeze(page.tuple_mut(offset)?, &plan);
            }
        }
        Ok(())
    })
}

/// Line pointers up to the end.
pub(super) fn rest(data: &mut Cursor<'_>) -> Result<Vec<u16>, ShortInput> {
    let count = data.remaining() / 2;
    offsets(data, count)
}
