//! Restore: what an earlier run kept is taken back.
//!
//! What holds for all files comes first, for it decides what is seen of each replica. Nothing of it is handed out
//! again by the next checkpoint.

use super::{
    effects::Effects,
    floors::Floors,
    kept::{File, Of, Tells},
    rare::Own,
    row::{Did, NONE, OWN, Row, SEEN, TELLS_ADLER32, TELLS_BYTES},
    table::Table,
    words::Words,
};
use crate::facts::{Change, Complete, DidKey, RseName, ScopeName};
use dbb_events::Micros;
use std::sync::Arc;
use ustr::Ustr;

impl Table {
    /// Takes back a file, which is not here; tells of its replicas.
    pub(super) fn restore(
        &mut self,
        key: DidKey,
        file: &File<'_>,
        keeps_name: bool,
        words: &mut Words,
        floors: &Floors,
        out: &mut Effects,
    ) {
        let number = self.add(key, words.scopes.number(Ustr::from(file.scope)));
        let name = file.name.filter(|_| keeps_name);
        let name = name.map_or(NONE, |name| self.names.add(name));
        let class = file.replicas.len().next_power_of_two().trailing_zeros() as u8;
        let first = if file.replicas.is_empty() {
            NONE
        } else {
            self.rows.take(class)
        };
        let rare = Arc::make_mut(&mut self.rare);
        if let Some(lost) = file.lost {
            rare.lost.insert(number, lost.order());
        }
        for (there, replica) in self.rows.block_mut(first, class).iter_mut().zip(&file.replicas) {
            let rse = words.rses.number(Ustr::from(replica.rse));
            let mut flags = 0;
            match (replica.bytes, replica.adler32) {
                (Tells::Other(_), _) | (_, Tells::Other(_)) => {
                    flags |= OWN;
                    let own = Own {
                        bytes: told(replica.bytes, file.bytes).unwrap_or(Change::NO_BYTES),
                        adler32: told(replica.adler32, file.adler32).unwrap_or(0),
                    };
                    rare.own.insert((number, rse), own);
                }
                (bytes, adler32) => {
                    flags |= if bytes == Tells::Same { TELLS_BYTES } else { 0 };
                    flags |= if adler32 == Tells::Same { TELLS_ADLER32 } else { 0 };
                }
            }
            if let Some(seen) = replica.seen {
                flags |= SEEN;
                rare.seen.insert((number, rse), seen);
            }
            *there = Row {
                at: replica.at,
                tie: replica.tie,
                rse,
                state: replica.state,
                basis: replica.basis,
                flags,
            };
        }
        self.dids.change(number, |did| {
            *did = Did {
                bytes: file.bytes.unwrap_or(Change::NO_BYTES),
                absent: file.absent.unwrap_or(i64::MIN),
                adler32: file.adler32.unwrap_or(0),
                name,
                first,
                class,
                lost: file.lost.is_some(),
                ..*did
            };
        });
        let did = *self.dids.get(number);
        for at in 0..file.replicas.len() {
            if let Some(row) = self.rows.block(first, class).get(at).copied() {
                let seen = self.seen(&row, number, &did, floors);
                self.shift(&did, row.rse, None, seen, out);
            }
        }
    }
}

fn told<V>(tells: Tells<V>, of_file: Option<V>) -> Option<V> {
    match tells {
        Tells::Nothing => None,
        Tells::Same => of_file,
        Tells::Other(value) => Some(value),
    }
}

/// The listing that a floor is of.
pub(super) fn complete(of: &Of<'_>, at: i64) -> Option<Complete> {
    match of {
        Of::Complete(rse, scope) => Some(Complete {
            at: Micros(at),
            rses: rse.map(|rse| vec![RseName::new(rse)]),
            scopes: scope.map(|scope| vec![ScopeName::new(scope)]),
        }),
        Of::Horizon(_) | Of::Watermark => None,
    }
}
