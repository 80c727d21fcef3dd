//! Watermark: how far event time has come, as far as that can be told from times that may be wrong.
//!
//! The median of each thousand records, and only when it is later than those before: up to half of the clocks may
//! be wrong by any amount and the watermark stays between the right ones.

/// Records of which one median is taken.
const SAMPLE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Watermark {
    forget_after_us: i64,
    sample: Vec<i64>,
    reached: Option<i64>,
    next: i64,
}

impl Watermark {
    /// One that has seen nothing.
    pub(crate) fn new(forget_after_us: i64) -> Self {
        Self {
            forget_after_us,
            sample: Vec::with_capacity(SAMPLE),
            reached: None,
            next: i64::MIN,
        }
    }

    /// How far it has come.
    pub(crate) fn reached(&self) -> Option<i64> {
        self.reached
    }

    /// It had come as far before.
    pub(crate) fn reach(&mut self, at: i64) {
        self.reached = Some(self.reached.map_or(at, |reached| reached.max(at)));
    }

    /// A record of this time came.
    pub(crate) fn see(&mut self, at: i64) {
        self.sample.push(at);
        if self.sample.len() >= SAMPLE {
            let (_, median, _) = self.sample.select_nth_unstable(SAMPLE / 2);
            let median = *median;
            self.reach(median);
            self.sample.clear();
        }
    }

    /// When one more table is to be looked at: before which time what is old in it may be forgotten. Each of `tables`
    /// is looked at four times while event time goes on by what is remembered.
    pub(crate) fn due(&mut self, tables: i64) -> Option<i64> {
        let reached = self.reached.filter(|reached| *reached >= self.next)?;
        let step = (self.forget_after_us / tables.saturating_mul(4)).max(1);
        let oldest = reached.saturating_sub(step.saturating_mul(tables));
        self.next = self.next.max(oldest).saturating_add(step);
        Some(reached.saturating_sub(self.forget_after_us))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_wild_clock_does_not_move_it() {
        let mut watermark = Watermark::new(10);
        for at in 0..5 * SAMPLE as i64 {
            watermark.see(if at % 3 == 0 { i64::MAX } else { at });
        }
        let horizon = watermark.due(256).unwrap();
        assert!(
            horizon < 5 * SAMPLE as i64 && horizon > 3 * SAMPLE as i64,
            "{horizon}"
        );
    }
}
