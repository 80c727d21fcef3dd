//! Times: microseconds since 1970, UTC.

use jiff::civil;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment, in microseconds since 1970-01-01T00:00:00Z; what Rucio's times resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// This moment and `seconds` more.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Seconds from `earlier` to this; negative if it is later.
    pub fn seconds_since(self, earlier: Micros) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// The moment that `text` names, in any form an event has had; `None` if it is none of them.
    ///
    /// - `2026-11-21 19:14:49.938629` (Python's `str`, which leaves out a fraction of zero), UTC
    /// - `2026-11-21T19:14:49.938629` (ISO, from Elastic), with `Z` or an offset too
    /// - `2026-11-21 19:14:49.938629+00` (PostgreSQL)
    /// - `datetime.datetime(2023, 9, 1, 12, 0, 1, 5)` (Python's `repr`, in captures of 2023)
    ///
    /// Digits beyond the microsecond are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(at) = usual(text.as_bytes()) {
            return Some(at);
        }
        match text.strip_prefix("datetime.datetime(") {
            Some(arguments) => python_repr(arguments),
            None => iso(text.as_bytes()),
        }
    }
}

/// `YYYY-MM-DD?hh:mm:ss.ffffff`, which nearly all are.
fn usual(text: &[u8]) -> Option<Micros> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let mut sound = matches!(text[10], b' ' | b'T');
    for (at, wanted) in [(4, b'-'), (7, b'-'), (13, b':'), (16, b':'), (19, b'.')] {
        sound &= text[at] == wanted;
    }
    let mut two = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        sound &= tens < 10 && ones < 10;
        i32::from(tens) * 10 + i32::from(ones)
    };
    let year = two(0) * 100 + two(2);
    let parts = [two(5), two(8), two(11), two(14), two(17)];
    let micros = (two(20) * 100 + two(22)) * 100 + two(24);
    sound.then_some(())?;
    moment(year, parts.map(|part| part as i8), micros)
}

/// Years that four digits can name.
const YEARS: std::ops::Range<i32> = 0..10_000;

/// `YYYY-MM-DD?hh:mm:ss[.fraction][zone]`.
fn iso(text: &[u8]) -> Option<Micros> {
    let (fixed, mut rest) = text.split_first_chunk::<19>()?;
    for (at, wanted) in [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')] {
        if fixed[at] != wanted {
            return None;
        }
    }
    if !matches!(fixed[10], b' ' | b'T' | b't') {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for at in 0..6 {
            micros = micros * 10
                + fraction
                    .get(at)
                    .filter(|_| at < digits)
                    .map_or(0, |b| i32::from(b - b'0'));
        }
        rest = &fraction[digits..];
    }
    let two = |at: usize| number(&[fixed[at], fixed[at + 1]]).map(|n| n as i8);
    let local = moment(
        i32::from(two(0)?) * 100 + i32::from(two(2)?),
        [two(5)?, two(8)?, two(11)?, two(14)?, two(17)?],
        micros,
    )?;
    Some(Micros(local.0 - offset_seconds(rest)? * 1_000_000))
}

/// What `Z`, `+hh:mm`, `+hhmm`, `+hh` (as PostgreSQL writes it) or nothing adds to UTC.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, digits) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

/// The arguments of `datetime.datetime(...)`: five to seven numbers and, at the most, UTC by name.
fn python_repr(arguments: &str) -> Option<Micros> {
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let mut parts = [0i32; 7];
    let mut count = 0;
    for argument in arguments.split(',').map(str::trim) {
        if matches!(argument, "tzinfo=datetime.timezone.utc" | "tzinfo=None") {
            continue;
        }
        *parts.get_mut(count)? = argument.parse().ok()?;
        count += 1;
    }
    if count < 5 {
        return None;
    }
    let small = |at: usize| i8::try_from(parts[at]).ok();
    moment(
        parts[0],
        [small(1)?, small(2)?, small(3)?, small(4)?, small(5)?],
        parts[6],
    )
}

fn moment(year: i32, [month, day, hour, minute, second]: [i8; 5], micros: i32) -> Option<Micros> {
    if !(0..1_000_000).contains(&micros) {
        return None;
    }
    let days = i64::from(days_since_1970(year, month, day)?);
    let [hour, minute, second] = [hour, minute, second].map(i64::from);
    let sound = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    sound.then_some(Micros(seconds * 1_000_000 + i64::from(micros)))
}

/// Of the Gregorian calendar; `None` if there is no such day. The year counts from 1 March, so that a leap
/// day is its last.
fn days_since_1970(year: i32, month: i8, day: i8) -> Option<i32> {
    YEARS.contains(&year).then_some(())?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i8::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let (year, month) = match i32::from(month) {
        month @ ..3 => (year - 1, month + 9),
        month => (year, month - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before = 365 * year + leap_days + (153 * month + 2) / 5;
    Some(before + i32::from(day) - 1 - 719_468)
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i32::from(byte - b'0'))
    })
}

/// 1970-01-01T00:00:00.
const START: civil::DateTime = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// ISO 8601 with microseconds and a `Z`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last two days of the year 9999 are no timestamp of the library, which leaves room for time zones.
        let since_1970 = jiff::Span::new().try_microseconds(self.0);
        match since_1970.and_then(|span| START.checked_add(span)) {
            Ok(at) if at.year() >= 0 => write!(f, "{at:.6}Z"),
            _ => write!(f, "{} us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    #[test]
    fn every_form_an_event_has_had_is_the_same_moment() {
        let wanted = Some(Micros(1_693_569_601_000_005));
        for text in [
            "2023-09-01 12:00:01.000005",
            "2023-09-01T12:00:01.000005",
            "2023-09-01T12:00:01.000005999Z",
            "2023-09-01T14:00:01.000005+02:00",
            "2023-09-01T07:30:01.000005-0430",
            "2023-09-01 12:00:01.000005+00",
            "2023-09-01 10:00:01.000005-02",
            "datetime.datetime(2023, 9, 1, 12, 0, 1, 5)",
            "datetime.datetime(2023, 9, 1, 12, 0, 1, 5, tzinfo=datetime.timezone.utc)",
        ] {
            assert_eq!(Micros::parse(text), wanted, "{text}");
        }
        let whole = Some(Micros(1_693_569_600_000_000));
        assert_eq!(Micros::parse("2023-09-01 12:00:00"), whole);
        assert_eq!(Micros::parse("datetime.datetime(2023, 9, 1, 12, 0)"), whole);
        assert_eq!(
            Micros::parse("2023-09-01 12:00:00.5"),
            Some(Micros(1_693_569_600_500_000))
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "None",
            "2023-09-01",
            "2023-13-01 12:00:00",
            "2023-02-29 12:00:00",
            "2023-09-01 12:00:00.",
            "2023-09-01 12:00:00 CET",
            "2023-09-01 12:00:00+99:00",
            "2023-09-01 12:00:00+1",
            "2023-09-01 12:00",
            "2023-09-01 12:00:00,5",
            "2016-12-31 23:59:60",
            "Fri, 01 Sep 2023 12:00:00 UTC",
            "1693569600",
            "datetime.datetime(2023, 9)",
            "datetime.datetime(2023, 9, 1, 12, 0, 1, 5000000)",
            "datetime.datetime(2023, 9, 1, 12, 0, 1, 5, 6)",
            "2023-09-01 12:00:0é",
        ] {
            assert_eq!(Micros::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_is_the_one_that_the_calendar_has() {
        for year in (0..2205i16)
            .chain([2400, 9996, 9998])
            .filter(|year| *year < 5 || year % 25 < 5 || *year > 1960)
        {
            for (month, day) in (1..=13i8).flat_map(|month| (0..=32i8).map(move |day| (month, day))) {
                let text = format!("{year:04}-{month:02}-{day:02} 23:59:59.999999");
                let known = civil::DateTime::new(year, month, day, 23, 59, 59, 999_999_000)
                    .ok()
                    .map(|at| Micros(Offset::UTC.to_timestamp(at).unwrap().as_microsecond()));
                assert_eq!(Micros::parse(&text), known, "{text}");
            }
        }
        for text in [
            "2026-01-01 24:00:00",
            "2026-01-01 00:60:00",
            "2026-01-01 00:00:60",
        ] {
            assert_eq!(Micros::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_and_the_last_moment_that_can_be_written_are_read_and_shown() {
        for (text, shown, micros) in [
            (
                "0001-01-01 00:00:00",
                "0001-01-01T00:00:00.000000Z",
                -62_135_596_800_000_000,
            ),
            (
                "9999-12-31 23:59:59.999999",
                "9999-12-31T23:59:59.999999Z",
                253_402_300_799_999_999,
            ),
        ] {
            assert_eq!(Micros::parse(text), Some(Micros(micros)));
            assert_eq!(Micros(micros).to_string(), shown);
        }
        assert_eq!(Micros(i64::MAX).to_string(), format!("{} us", i64::MAX));
        assert_eq!(Micros(i64::MIN).to_string(), format!("{} us", i64::MIN));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000) {
            let at = Micros(micros);
            let shown = at.to_string();
            prop_assert_eq!(Micros::parse(&shown), Some(at));
            let as_rucio = shown.replace('T', " ").replace('Z', "");
            prop_assert_eq!(Micros::parse(&as_rucio), Some(at));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Micros::parse(&text);
        }
    }
}
