//! `XLOG_HEAP2_FREEZE_PAGE` (14 to 16): old tuples lose their transaction ids.
//!
//! ```text
//! 14, 15, main: cutoff u32, ntuples u16
//!         block 0: ntuples x (xmax u32, offset u16, infomask2 u16, infomask u16, frzflags u8, pad)
//! 16,     main: horizon u32, nplans u16, isCatalogRel
//!         block 0: nplans x (xmax u32, infomask2 u16, infomask u16, frzflags u8, pad, ntuples u16),
//!                  then the line pointers of the plans, in order
//! ```
// pg: access/heapam_xlog.h xl_heap_freeze_page, xl_heap_freeze_tuple [14-15], _plan [16]

use redostream_protocol::cursor::ShortInput;
use redostream_protocol::{Cursor, Xid};

use super::{Replay, offsets};
use crate::catalog::CatalogError;
use crate::catalog::tuple;

const NAME: &str = "freeze";

/// What is done to some tuples.
pub(super) struct Plan {
    xmax: Xid,
    mask2: u16,
    mask: u16,
    /// How many tuples it is for.
    pub(super) tuples: u16,
}

impl Plan {
    /// An `xl_heap_freeze_plan` of 16, which is an `xlhp_freeze_plan` later.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Plan, ShortInput> {
        let xmax = Xid(cursor.u32("xmax")?);
        let mask2 = cursor.u16("infomask2")?;
        let mask = cursor.u16("infomask")?;
        // The flags speak of what versions before 9.0 left behind.
        cursor.take(2, "freeze flags")?;
        let tuples = cursor.u16("number of tuples")?;
        Ok(Plan {
            xmax,
            mask2,
            mask,
            tuples,
        })
    }
}

// pg: access/heapam.h heap_execute_freeze_tuple [14-18]
pub(super) fn freeze(bytes: &mut [u8], plan: &Plan) {
    tuple::set_xmax(bytes, plan.xmax);
    tuple::set_mask(bytes, plan.mask);
    tuple::set_mask2(bytes, plan.mask2);
}

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = replay.block(0, NAME)?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    main.take(4, "cutoff").map_err(&error)?;
    let count = main.u16("number").map_err(&error)?;
    let in_plans = replay.store.format.major >= 16;
    replay.redo_with(0, NAME, |page| {
        let mut data = Cursor::new(block.data);
        let mut plans = Vec::new();
        for _ in 0..count {
            if in_plans {
                plans.push((Plan::parse(&mut data)?, Vec::new()));
            } else {
                let xmax = Xid(data.u32("xmax")?);
                let offset = data.u16("offset")?;
                let plan = Plan {
                    xmax,
                    mask2: data.u16("infomask2")?,
                    mask: data.u16("infomask")?,
                    tuples: 1,
                };
                data.take(2, "freeze flags")?;
                plans.push((plan, vec![offset]));
            }
        }
        for (plan, mut places) in plans {
            if in_plans {
                places = offsets(&mut data, usize::from(plan.tuples))?;
            }
            for offset in places {
                freeze(page.tuple_mut(offset)?, &plan);
            }
        }
        Ok(())
    })
}
