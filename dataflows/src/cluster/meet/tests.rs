//! Two processes meet, whoever else is there.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::cluster::{
    greeting::{self, OPENING, Proof, Side},
    lobby::DOOR,
};
use std::{
    io::{Read, Write},
    thread::JoinHandle,
};

type Meets = JoinHandle<Result<Met, ClusterError>>;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn addresses() -> Vec<String> {
    vec![free_address(), free_address()]
}

fn process(addresses: &[String], process: usize, token: &str, workers: &str, seconds: u64) -> Meets {
    let hosts = Hosts {
        addresses: addresses.to_vec(),
        process,
    };
    let hello = Hello {
        kind: Kind::Words,
        process,
        version: "1".into(),
        settings: BTreeMap::from([("workers".into(), workers.into())]),
    };
    let token = token.as_bytes().to_vec();
    thread::spawn(move || {
        let meeting = Meeting {
            hosts: &hosts,
            listen: None,
            hello,
            token,
            connect: Duration::from_secs(seconds),
            patience: Duration::from_secs(5),
        };
        meet(meeting, |_| ())
    })
}

fn are_whole(processes: [Meets; 2]) {
    // Kept until both have come back: who sees the other go again would look for it.
    let met = processes.map(|meets| meets.join().unwrap().unwrap());
    assert!(met.iter().all(|met| met.data.len() == 1 && met.words.len() == 1));
}

#[test]
fn strangers_who_come_again_and_again_do_not_keep_a_start_from_becoming_whole() {
    let addresses = addresses();
    let first = process(&addresses, 0, "sesame", "1", 60);
    let over = Arc::new(AtomicBool::new(false));
    let (ends, address) = (Arc::clone(&over), addresses[0].clone());
    let strangers = thread::spawn(move || {
        while !ends.load(Ordering::Acquire) {
            let greeted: Vec<_> = (0..70)
                .filter_map(|_| TcpStream::connect(&address).ok())
                .map(|mut stream| {
                    let _ = stream.write_all(&greeting::opening(&[7; 32]));
                    stream
                })
                .collect();
            thread::sleep(Duration::from_millis(20));
            drop(greeted);
        }
    });
    thread::sleep(Duration::from_millis(300));
    are_whole([first, process(&addresses, 1, "sesame", "1", 60)]);
    over.store(true, Ordering::Release);
    strangers.join().unwrap();
}

/// Answers everybody as process 0 would, with `said` signed with `token`.
fn stranger(
    address: &str,
    token: &'static str,
    said: &'static [u8],
    over: &Arc<AtomicBool>,
) -> JoinHandle<u64> {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let over = Arc::clone(over);
    thread::spawn(move || {
        let mut answered = 0;
        while !over.load(Ordering::Acquire) {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.write_all(&greeting::opening(&[9; 32])).unwrap();
            let mut opening = [0; OPENING];
            stream.read_exact(&mut opening).unwrap();
            let proof = Proof {
                token: token.as_bytes(),
                connecting: greeting::opened(&opening).unwrap().unwrap(),
                listening: [9; 32],
            };
            let _ = stream.write_all(&proof.signed(Side::Listening, said).unwrap());
            answered += 1;
        }
        answered
    })
}

#[test]
fn whoever_answers_in_the_place_of_another_process_ends_nothing() {
    let refused = doors::refused_so_far(DOOR, Reason::Unproven);
    let (cannot, says_no) = (r#"{"Hello":{"kind":"Data"}}"#.as_bytes(), br#""OtherToken""#);
    // Somebody who knows nothing, and somebody who has relayed what a process of this cluster says of a spoilt greeting.
    for (token, said) in [("barley", cannot), ("sesame", says_no)] {
        let addresses = addresses();
        let over = Arc::new(AtomicBool::new(false));
        let stranger = stranger(&addresses[0], token, said, &over);
        let second = process(&addresses, 1, "sesame", "1", 60);
        thread::sleep(Duration::from_millis(700));
        assert!(!second.is_finished());
        over.store(true, Ordering::Release);
        assert!(stranger.join().unwrap() > 2);
        are_whole([process(&addresses, 0, "sesame", "1", 60), second]);
    }
    assert!(doors::refused_so_far(DOOR, Reason::Unproven) > refused + 4);
}

#[test]
fn a_process_of_another_token_is_tried_until_the_time_of_a_start_is_over() {
    let addresses = addresses();
    let first = process(&addresses, 0, "barley", "1", 4);
    let error = process(&addresses, 1, "sesame", "1", 2)
        .join()
        .unwrap()
        .unwrap_err();
    let said = error.to_string();
    assert!(said.contains("does not prove the token"), "{said}");
    assert!(error.is_transient() && matches!(error, ClusterError::NotWhole { .. }));
    assert!(matches!(
        first.join().unwrap(),
        Err(ClusterError::NotWhole { .. })
    ));
}

#[test]
fn a_process_that_proves_the_token_and_does_not_fit_ends_the_start_at_once() {
    let addresses = addresses();
    let processes = [("1", 0), ("2", 1)].map(|(workers, at)| process(&addresses, at, "sesame", workers, 60));
    for meets in processes {
        let error = meets.join().unwrap().unwrap_err();
        assert!(
            error.to_string().contains("differs from this one in `workers`"),
            "{error}"
        );
        assert!(!error.is_transient());
    }
}
