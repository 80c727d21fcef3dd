//! Greetings: whatever a stranger says to a process of a cluster, it is not believed, and costs nothing.

#[path = "../../../dataflows/src/cluster/greeting.rs"]
#[allow(dead_code)]
mod greeting;
#[path = "../../../serving/src/peers/proof.rs"]
#[allow(dead_code)]
mod proof;

use crate::{Target, dice::Dice};
use greeting::{Heard, OPENING, Proof, Side, heard, opened, opening};

const TOKEN: &[u8] = b"open sesame";
const NONCE: [u8; 32] = [7; 32];
const SAID: &[u8] = br#"{"kind":"Data","process":1,"version":"0.1.0","settings":{"workers":"1"}}"#;

pub(crate) fn target() -> Target {
    let greeting = genuine().signed(Side::Connecting, SAID).unwrap_or_default();
    let introduction = proof::Proof::asking(TOKEN, NONCE).introduction();
    Target {
        seeds: vec![
            [opening(&NONCE), greeting].concat(),
            introduction.map(Vec::from).unwrap_or_default(),
        ],
        takes: |input, _: &mut Dice| is_of_the_cluster(input) | is_of_a_peer(input),
    }
}

fn genuine() -> Proof<'static> {
    Proof {
        token: TOKEN,
        connecting: NONCE,
        listening: [9; 32],
    }
}

fn is_of_the_cluster(input: &[u8]) -> bool {
    let Ok(Some(nonce)) = opened(input) else {
        return false;
    };
    let proof = Proof {
        connecting: nonce,
        ..genuine()
    };
    let received = &input[OPENING..];
    match heard(received) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok(Heard::Part(missing)) => {
            assert!((1..=8 << 10).contains(&missing));
            false
        }
        Ok(Heard::Signed(signed)) => {
            assert!(matches!(proof.verified(Side::Listening, signed), Ok(None)));
            let Ok(Some(said)) = proof.verified(Side::Connecting, signed) else {
                return false;
            };
            assert_eq!((said, nonce), (SAID, NONCE), "this was never signed");
            true
        }
    }
}

fn is_of_a_peer(input: &[u8]) -> bool {
    let Some(introduction) = input.first_chunk() else {
        return false;
    };
    let Ok((proof, is_proven)) = proof::Proof::introduced(TOKEN, NONCE, introduction) else {
        return false;
    };
    let back = input
        .first_chunk()
        .is_some_and(|answer| proof.is_answered(answer).unwrap_or(true));
    assert!(!back, "what was said proves nothing when it is said back");
    is_proven
}
