//! Columns: the bodies of events in a Parquet file, as lines.
//!
//! In:    the rows of the file.
//! Out:   one line a row, blank for a null. A line end inside a body, where JSON has white space, becomes a space.
//! State: one batch of rows.

use super::Start;
use crate::format::Rows;
use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

#[derive(Debug)]
pub(super) struct Columns {
    rows: Rows,
    count: Arc<AtomicU64>,
    block: usize,
}

impl Columns {
    pub(super) fn new(file: File, size: u64, count: Arc<AtomicU64>, block: u64) -> io::Result<Self> {
        Ok(Self {
            rows: Rows::new(file, size, 0, false)?,
            count,
            block: block as usize,
        })
    }

    /// Puts the next bodies into `buffer`, which is empty, and tells which row begins it.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Start>> {
        let start = Start {
            offset: self.rows.row(),
            line: Some(self.rows.row() + 1),
        };
        // What is there goes first: the next batch may be damaged.
        while buffer.is_empty() || (buffer.len() < self.block && self.rows.has_next()) {
            let Some(row) = self.rows.next_row()? else { break };
            let begin = buffer.len();
            buffer.extend_from_slice(row.body);
            for byte in &mut buffer[begin..] {
                if *byte == b'\n' {
                    *byte = b' ';
                }
            }
            buffer.push(b'\n');
        }
        self.count.fetch_add(self.rows.take_read(), Relaxed);
        Ok((!buffer.is_empty()).then_some(start))
    }
}
