//! Invented events: the mix, the shape and the length (929 bytes) of those that `bench/race/gen.py` makes.

use dbb_events::Micros;

const RSES: [&str; 12] = [
    "CERN-PROD_DATADISK",
    "BNL-OSG2_DATADISK",
    "SLAC_BUTLER_DISK",
    "IN2P3-CC_DATADISK",
    "RAL-LCG2_DATADISK",
    "LANCS_BUTLER_DISK",
    "FZK-LCG2_DATADISK",
    "PIC_DATADISK",
    "TRIUMF-LCG2_DATADISK",
    "NDGF-T1_DATADISK",
    "SARA-MATRIX_DATADISK",
    "INFN-T1_DATADISK",
];
const SCOPES: [&str; 8] = [
    "dp1",
    "dp2",
    "raw",
    "mc23_13p6TeV",
    "data25_13p6TeV",
    "user.kchen",
    "user.mjones",
    "group.phys",
];

/// A sequence of numbers that looks random and is always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn hex(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// `count` events, one a line. Of the files each has some two replicas; 43 % are queued, 42 % done, 5 % failed, 10 % deleted.
pub fn events(count: u64) -> String {
    let mut numbers = Numbers(42);
    let mut text = String::new();
    let mut now = Micros(1_772_323_200_000_000);
    for _ in 0..count {
        now.0 += 1 + numbers.below(40_000) as i64;
        text.push_str(&event(&mut numbers, count, now));
        text.push('\n');
    }
    text
}

fn event(numbers: &mut Numbers, count: u64, now: Micros) -> String {
    let time = |at: Micros| at.to_string().replace('T', " ").replace('Z', "");
    let mut file = Numbers(numbers.below(1 + count / 5));
    let (scope, size, adler) = (file.of(&SCOPES), file.below(5_000_000_000), file.next() as u32);
    let name = format!(
        "AOD.{:08}._{:06}.pool.root.1",
        file.below(100_000_000),
        file.0 % 1_000_000
    );
    let (id, request, rse) = (numbers.hex(), numbers.hex(), numbers.of(&RSES));
    let url = format!(
        "davs://{}.example.org:2880/pnfs/{scope}/{:02x}/{:02x}/{name}",
        rse.to_lowercase(),
        numbers.below(256),
        numbers.below(256)
    );
    let (kind, reason) = match numbers.below(100) {
        0..10 => ("deletion-done", ""),
        10..15 => (
            "transfer-failed",
            r#"TRANSFER [110] Connection timed out \"after\" 300 s"#,
        ),
        15..57 => ("transfer-done", ""),
        _ => ("transfer-queued", ""),
    };
    let created = time(now);
    let envelope =
        format!(r#"{{"id": "{id}", "event_type": "{kind}", "created_at": "{created}", "payload": "#);
    let payload = if kind == "deletion-done" {
        format!(
            r#"{{"scope": "{scope}", "name": "{name}", "rse": "{rse}", "file-size": {size}, "bytes": {size}, "url": "{url}", "protocol": "davs", "duration": {}.{:03}, "reason": "", "account": "root", "rule-id": null, "datatype": "AOD", "staging": false, "state": "DELETED", "checksum-adler": "{adler:08x}", "hostname": "reaper-{:02}", "request-id": "{request}", "chunk": {}, "note": "Deletion by the reaper of an expired, unlocked replica; threshold {}"}}"#,
            numbers.below(9),
            numbers.below(1000),
            numbers.below(8),
            numbers.below(1000),
            numbers.hex()
        )
    } else {
        format!(
            r#"{{"activity": "Data Rebalancing", "request-id": "{request}", "duration": {}, "checksum-adler": "{adler:08x}", "checksum-md5": null, "file-size": {size}, "bytes": {size}, "guid": null, "protocol": "davs", "scope": "{scope}", "name": "{name}", "src-type": "DISK", "src-rse": "{}", "dst-type": "DISK", "dst-rse": "{rse}", "dst-url": "{url}", "reason": "{reason}", "transfer-endpoint": "https://fts3.example.org:8446", "transfer-id": "{}", "submitted_at": "{}", "transferred_at": "{created}", "rule-id": "{}", "account": "prod", "tool-id": "rucio-conveyor"}}"#,
            1 + numbers.below(3600),
            numbers.of(&RSES),
            numbers.hex(),
            time(now.plus_seconds(-30 - numbers.below(4000) as i64)),
            numbers.hex()
        )
    };
    envelope + &payload + "}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_events::{decode, scan};

    #[test]
    fn every_one_is_an_event_of_the_usual_form_and_length() {
        let text = events(2000);
        assert!((900..950).contains(&(text.len() / 2000)), "{}", text.len() / 2000);
        for line in text.lines() {
            assert!(decode(line.as_bytes()).is_ok(), "{line}");
            assert!(scan(line.as_bytes()).is_some(), "{line}");
        }
    }
}
