//! Finding the waiting requests of an inventory without reading what is drained again and again.
//!
//! A page of which nothing concerns the inventory any more (all its rows are drained, or other inventories') is looked at again only when it has changed,
//! which its LSN tells. That it was full once tells nothing: VACUUM, or a scan that prunes it, makes room for new rows.

use pgrx::prelude::*;

use super::rows::{RELATION, Segment};

/// Where a row lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tid {
    pub block: u32,
    pub offset: u16,
}

/// What is known of a page.
#[derive(Clone, Copy, Default)]
struct Page {
    lsn: u64,
    /// Nothing in it waits, nor is about to.
    is_idle: bool,
}

/// What a backend knows of a table of the queue, for one inventory.
#[derive(Default)]
pub struct Seen {
    /// The table's file: another after it was emptied.
    file: u32,
    pages: Vec<Page>,
}

impl Seen {
    /// The table was emptied since it was scanned.
    pub fn is_outdated(&self, segment: &Segment) -> bool {
        self.file != 0 && self.file != segment.file()
    }
}

/// Calls `found` with the number and the place of each row of the relation that is committed, or our own, and not deleted, on pages that may hold one not
/// seen before.
pub fn scan(segment: &Segment, seen: &mut Seen, relation: pg_sys::Oid, mut found: impl FnMut(i64, Tid)) {
    // SAFETY: the table is open and locked, so it has its file; each page is pinned and locked while it is read; a dirty snapshot is no
    // more than its type, and says who is at work on the row that was judged last.
    unsafe {
        let table = segment.relation();
        let file = segment.file();
        if seen.file != file {
            *seen = Seen { file, pages: Vec::new() };
        }
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM);
        seen.pages.resize(blocks as usize, Page::default());
        let mut snapshot =
            pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..std::mem::zeroed() };
        let oid = (*table).rd_id;
        for (block, known) in (0..blocks).zip(&mut seen.pages) {
            pgrx::check_for_interrupts!();
            let buffer = pg_sys::ReadBuffer(table, block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(buffer);
            let header = &*page.cast::<pg_sys::PageHeaderData>();
            let lsn = u64::from(header.pd_lsn.xlogid) << 32 | u64::from(header.pd_lsn.xrecoff);
            if known.is_idle && known.lsn == lsn {
                pg_sys::UnlockReleaseBuffer(buffer);
                continue;
            }
            // A new page has no header yet.
            let is_new = header.pd_upper == 0;
            let last = if is_new { 0 } else { last_of(header) };
            let mut is_idle = true;
            for offset in 1..=last {
                let item = &*page.add(HEADER).cast::<pg_sys::ItemIdData>().add(usize::from(offset) - 1);
                if item.lp_flags() != pg_sys::LP_NORMAL {
                    continue;
                }
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_tableOid: oid,
                    t_data: page.add(item.lp_off() as usize).cast(),
                    ..Default::default()
                };
                pgrx::itemptr::item_pointer_set_all(&mut tuple.t_self, block, offset);
                let is_there = pg_sys::HeapTupleSatisfiesVisibility(&mut tuple, &mut snapshot, buffer);
                if !is_there || segment.read::<pg_sys::Oid>(&mut tuple, RELATION) != Some(relation) {
                    continue;
                }
                is_idle = false;
                let nobody = pg_sys::InvalidTransactionId;
                if snapshot.xmin == nobody
                    && snapshot.xmax == nobody
                    && let Some(number) = segment.read::<i64>(&mut tuple, super::rows::NUMBER)
                {
                    found(number, Tid { block, offset });
                }
            }
            pg_sys::UnlockReleaseBuffer(buffer);
            *known = Page { lsn, is_idle };
        }
    }
}

/// What precedes the list of a page's items.
const HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);

/// The number of the last item. PageGetMaxOffsetNumber, PageGetItemId and PageGetItem are macros up to 15 and inline functions since 16, so neither can
/// be called on every version: what they say is written here.
fn last_of(header: &pg_sys::PageHeaderData) -> u16 {
    (usize::from(header.pd_lower).saturating_sub(HEADER) / size_of::<pg_sys::ItemIdData>()) as u16
}
