//! Cuts parts and gives their rows a relation, as of the cut, in the eyes of their transaction.

use std::sync::Arc;

use redostream_protocol::{Lsn, Xid};

use super::{Gate, GateError, GatedPart, Passage};
use crate::catalog::CatalogError;
use crate::catalog::relation::Target;
use crate::decoding::task::{Targets, VIEW_SKIP};
use crate::framing::partition::RowKind;

impl Gate {
    /// Ends the part before record `number`, if it has rows.
    pub(super) fn cut(
        &mut self,
        passage: &mut Passage<'_>,
        number: u32,
        lsn: Lsn,
    ) -> Result<(), GateError> {
        let mut any = false;
        let mut ranges = Vec::with_capacity(passage.taken.len());
        for (entries, taken) in passage.chunk.partitions.iter().zip(&mut passage.taken) {
            let rest = &entries[*taken..];
            let length = rest.partition_point(|entry| entry.number < number);
            ranges.push(*taken..*taken + length);
            *taken += length;
            any |= length > 0;
        }
        if !any || !self.is_consistent() {
            return Ok(());
        }
        let targets = self.resolve(passage, &ranges, lsn)?;
        self.tell_before_rows(&targets, passage)?;
        self.emit(passage, lsn, targets, Some(ranges));
        Ok(())
    }

    /// Sends off what has come together.
    pub(super) fn emit(
        &self,
        passage: &mut Passage<'_>,
        end: Lsn,
        targets: Targets,
        ranges: Option<Vec<std::ops::Range<usize>>>,
    ) {
        let nothing = || vec![0..0; passage.taken.len()];
        passage.parts.push(GatedPart {
            chunk: Arc::clone(passage.chunk),
            ranges: ranges.unwrap_or_else(nothing),
            targets: Arc::new(targets),
            tops: Arc::clone(&passage.tops),
            own: std::mem::take(&mut passage.own),
            own_groups: passage.own_groups.clone(),
            own_relations: std::mem::take(&mut passage.own_relations),
            controls: std::mem::take(&mut passage.controls),
            end,
        });
    }

    fn resolve(
        &mut self,
        passage: &Passage<'_>,
        ranges: &[std::ops::Range<usize>],
        lsn: Lsn,
    ) -> Result<Targets, GateError> {
        let (views, viewers) = self.views(passage);
        let files = passage.chunk.files.len();
        let mut by_view: Vec<Vec<Option<Arc<Target>>>> = vec![vec![None; files]; viewers.len()];
        for (_, view, file) in wanted(passage, ranges, &views, viewers.len()) {
            let node = passage.chunk.files[usize::from(file)];
            if !self.is_selected(node.database) {
                continue;
            }
            let viewer = viewers[usize::from(view)];
            let target = match self.catalog.resolve(node, viewer, &self.transactions) {
                Ok(target) => target,
                Err(CatalogError::NoRelation { .. }) if is_foreign(passage, ranges, file) => {
                    continue;
                }
                Err(error) => return Err(GateError::Resolve { lsn, error }),
            };
            by_view[usize::from(view)][usize::from(file)] = Some(target);
        }
        let needs_catalog = |target: &Arc<Target>| matches!(&**target, Target::Table(layout) if layout.needs_catalog);
        let named = by_view.iter().flatten().flatten().any(needs_catalog);
        let snapshot = named.then(|| self.catalog.snapshot(&self.transactions));
        Ok(Targets {
            views,
            by_view,
            viewers,
            snapshot,
        })
    }

    /// The view of each group, and the transaction that each view belongs to. View 0 is that of
    /// everybody who has not changed the catalog.
    fn views(&self, passage: &Passage<'_>) -> (Vec<u16>, Vec<Option<Xid>>) {
        let mut viewers = vec![None];
        if !self.catalog.has_any_changes() && self.readiness.is_none() {
            return (Vec::new(), viewers);
        }
        let mut view_of_leader = vec![u16::MAX; passage.tops.by_group.len()];
        let mut views = Vec::with_capacity(passage.tops.by_group.len());
        for (leader, top) in &passage.tops.by_group {
            let view = if self.skips(*top) {
                VIEW_SKIP
            } else if self.catalog.has_changes(*top) {
                let view = &mut view_of_leader[usize::from(*leader)];
                if *view == u16::MAX {
                    *view = viewers.len() as u16;
                    viewers.push(Some(*top));
                }
                *view
            } else {
                0
            };
            views.push(view);
        }
        (views, viewers)
    }
}

/// Whether everything that a part holds of a file is changes of an extension's pages: the file may
/// be an index that is being made.
#[cold]
fn is_foreign(passage: &Passage<'_>, ranges: &[std::ops::Range<usize>], file: u16) -> bool {
    let parts = ranges.iter().zip(&passage.chunk.partitions);
    let mut all = parts.flat_map(|(range, entries)| &entries[range.clone()]);
    all.all(|entry| entry.file != file || entry.kind == RowKind::Foreign)
}

/// The (view, file) pairs that rows of a part have, each with the number of its first row, in
/// order of that: so relation versions are numbered as the log has them, however rows are dealt to
/// partitions.
fn wanted(
    passage: &Passage<'_>,
    ranges: &[std::ops::Range<usize>],
    views: &[u16],
    viewers: usize,
) -> Vec<(u32, u16, u16)> {
    let chunk = passage.chunk;
    let mut wanted: Vec<(u32, u16, u16)> = Vec::new();
    let parts = ranges.iter().zip(&chunk.partitions);
    let whole = parts.clone().all(|(range, all)| *range == (0..all.len()));
    if whole && views.is_empty() {
        // Framing has noted it.
        let firsts = chunk.first_rows.iter().zip(0_u16..);
        wanted.extend(
            firsts
                .filter(|(first, _)| **first != u32::MAX)
                .map(|(first, file)| (*first, 0, file)),
        );
        wanted.sort_unstable();
        return wanted;
    }
    let files = chunk.files.len();
    let mut seen = vec![u32::MAX; viewers * files];
    for (range, entries) in parts {
        for entry in &entries[range.clone()] {
            let view = views.get(usize::from(entry.group)).copied().unwrap_or(0);
            if view == VIEW_SKIP {
                continue;
            }
            let first = &mut seen[usize::from(view) * files + usize::from(entry.file)];
            if *first == u32::MAX {
                wanted.push((0, view, entry.file));
            }
            *first = (*first).min(entry.number);
        }
    }
    for (first, view, file) in &mut wanted {
        *first = seen[usize::from(*view) * files + usize::from(*file)];
    }
    wanted.sort_unstable();
    wanted
}
