//! Replicas of two processes, asked of either of them.

use crate::shared::{Numbers, offered, wait_for};
use arrow::{
    array::AsArray,
    datatypes::{Int64Type, SchemaRef},
};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    publish::{Part, Publisher, heard},
    views::{Batches, Scan, Table, Unread},
};
use dbb_serving::{
    Metrics,
    peers::{PeerServer, Peers, Token, serve},
    sql::{Engine, Epochs, Limits, SqlError},
};
use futures::TryStreamExt;
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use timely::{
    CommunicationConfig, Config, WorkerConfig,
    dataflow::{
        InputHandle,
        channels::pact::Pipeline,
        operators::{Input, generic::Operator, vec::Broadcast},
    },
};

const ROWS: usize = 20_000;
/// Numbers of the second process begin here.
const SECOND: i64 = 1_000_000_000;

fn token() -> Token {
    Arc::from(&b"open sesame"[..])
}

/// What a process has as of an epoch.
type Share = fn(process: usize, epoch: Epoch) -> Arc<dyn Table>;

fn numbers(process: usize, epoch: Epoch) -> Arc<dyn Table> {
    Arc::new(Numbers::new(process as i64 * SECOND + epoch as i64, ROWS))
}

/// Two processes, each of which publishes every tick.
struct Cluster {
    publishers: [Arc<Publisher>; 2],
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Cluster {
    fn start(share: Share) -> Self {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
        let publishers = [0, 1].map(|_| Arc::new(Publisher::new(1).one_of(2)));
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = [0, 1].map(|process| {
            let (addresses, publisher) = (addresses.to_vec(), Arc::clone(&publishers[process]));
            let stopped = Arc::clone(&stopped);
            std::thread::spawn(move || run(process, addresses, &publisher, share, &stopped))
        });
        Self {
            publishers,
            stopped,
            threads: threads.into(),
        }
    }

    /// Says where each process can be asked, and waits until all know.
    fn announce(&self, addresses: [String; 2]) {
        for (publisher, address) in self.publishers.iter().zip(addresses) {
            publisher.announce(address);
        }
        wait_for(|| {
            self.publishers
                .iter()
                .all(|publisher| publisher.addresses().len() == 2)
        });
    }

    fn servers(&self) -> [PeerServer; 2] {
        let start = |publisher| serve("127.0.0.1:0", token(), Arc::clone(publisher)).unwrap();
        let servers = self.publishers.each_ref().map(start);
        self.announce(servers.each_ref().map(|server| server.address().to_string()));
        servers
    }

    fn engine(&self, process: usize, token: Token) -> Engine {
        let peers = Peers::new(Arc::clone(&self.publishers[process]), process, token);
        let limits = Limits {
            time: Duration::from_secs(20),
            ..Limits::NONE
        };
        let epochs: Arc<dyn Epochs> = Arc::new(peers);
        Engine::new(limits, epochs, vec![offered("replicas")], Metrics::default()).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn run(
    process: usize,
    addresses: Vec<String>,
    publisher: &Arc<Publisher>,
    share: Share,
    stopped: &Arc<AtomicBool>,
) {
    let communication = CommunicationConfig::Cluster {
        threads: 1,
        process,
        addresses,
        report: false,
        zerocopy: false,
    };
    let config = Config {
        communication,
        worker: WorkerConfig::default(),
    };
    let (publisher, stopped) = (Arc::clone(publisher), Arc::clone(stopped));
    let running = timely::execute(config, move |worker| {
        let mut ticks = InputHandle::new();
        let part = ("replicas", worker.index());
        publisher.expect(part);
        let publisher = Arc::clone(&publisher);
        worker.dataflow::<Epoch, _, _>(|scope| {
            let ticks = heard(scope.input_from(&mut ticks).broadcast(), &publisher);
            let mut done = None;
            ticks.sink(Pipeline, "replicas", move |(input, frontier)| {
                input.for_each_stamp(|_, _| ());
                for due in publisher.due(done, frontier.frontier().first().copied()) {
                    let value = if publisher.is_asked(due) {
                        Part::Table(share(part.1, due))
                    } else {
                        Part::NotAsked
                    };
                    publisher.offer(part, due, value);
                    done = Some(due);
                }
            });
        });
        let mut epoch = 0;
        while worker.index() == 0 && !stopped.load(Ordering::SeqCst) {
            ticks.send(Micros(epoch as i64));
            epoch += 1;
            ticks.advance_to(epoch);
            let until = Instant::now() + Duration::from_millis(3);
            while Instant::now() < until {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
        }
        drop(ticks);
        while worker.step_or_park(Some(Duration::from_millis(1))) {}
    });
    running
        .unwrap()
        .join()
        .into_iter()
        .for_each(|result| result.unwrap());
}

/// The numbers of one row, with `$epoch` added to them.
fn ask(engine: &Engine, sql: &str) -> Result<Vec<i64>, SqlError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let answer = engine.query(sql).await?;
        let epoch = answer.published().unwrap().epoch as i64;
        let batches: Vec<_> = answer.try_collect().await?;
        let row = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
        let numbers = row.columns().iter();
        let numbers = numbers.map(|column| column.as_primitive::<Int64Type>().value(0));
        Ok(numbers.chain([epoch]).collect())
    })
}

#[test]
fn either_process_answers_for_both_as_of_one_epoch() {
    let cluster = Cluster::start(numbers);
    let _servers = cluster.servers();
    let engines = [0, 1].map(|process| cluster.engine(process, token()));
    let rows = ROWS as i64;
    std::thread::scope(|threads| {
        for engine in engines.iter().chain(&engines) {
            threads.spawn(|| {
                for _ in 0..15 {
                    let told = ask(engine, "select count(*), min(n), max(n) from replicas").unwrap();
                    let epoch = told[3];
                    assert_eq!(told, [2 * rows, epoch, SECOND + epoch + rows - 1, epoch]);
                    // Read twice, and with a filter and columns that are asked of the other too.
                    let told = ask(
                        engine,
                        "select count(*), sum(a.n - b.n) from replicas a join replicas b using (n) where a.name = 'name-3'",
                    )
                    .unwrap();
                    assert_eq!(told[..2], [2 * rows / 10, 0]);
                }
            });
        }
    });
    let limited = ask(&engines[0], "select n from replicas limit 1").unwrap();
    assert_eq!(limited[0], limited[1]);
}

#[test]
fn a_process_that_is_gone_silent_or_a_stranger_fails_the_statement_in_time() {
    let cluster = Cluster::start(numbers);
    let here = serve("127.0.0.1:0", token(), Arc::clone(&cluster.publishers[0])).unwrap();
    // It takes connections, as a stopped process does, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = silent.local_addr().unwrap().to_string();
    cluster.announce([here.address().to_string(), there.clone()]);
    let engine = cluster.engine(0, token());
    let begun = Instant::now();
    let error = ask(&engine, "select count(*) from replicas").unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(
        error.to_string(),
        format!(
            "the replicas of process 1 ({there}) cannot be read: it does not answer; ask again once the cluster is whole"
        )
    );
    assert_eq!((error.state(), error.outcome()), ("58030", "failed"));
    drop(silent);
    let error = ask(&engine, "select count(*) from replicas").unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    // Asked from there, this process wants to see the token.
    let stranger = cluster.engine(1, Arc::from(&b"open barley"[..]));
    let error = ask(&stranger, "select count(*) from replicas").unwrap_err();
    assert!(error.to_string().contains("the token is another"), "{error}");
}

#[test]
fn idle_strangers_do_not_keep_statements_from_the_replicas_of_others() {
    let cluster = Cluster::start(numbers);
    let servers = cluster.servers();
    let engine = cluster.engine(0, token());
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.extend((0..270).map(|_| std::net::TcpStream::connect(servers[1].address()).unwrap()));
        idle.drain(..idle.len().saturating_sub(300));
        for _ in 0..5 {
            let told = ask(&engine, "select count(*) from replicas").unwrap();
            assert_eq!(told[0], 2 * ROWS as i64);
        }
    }
    assert!(dbb_serving::doors::refused_so_far("peers", dbb_serving::doors::Reason::Crowded) > 500);
}

#[test]
fn a_stranger_at_the_address_of_another_process_is_not_believed() {
    let cluster = Cluster::start(numbers);
    let here = serve("127.0.0.1:0", token(), Arc::clone(&cluster.publishers[0])).unwrap();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = stranger.local_addr().unwrap().to_string();
    cluster.announce([here.address().to_string(), there]);
    let answers = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = stranger.accept().unwrap();
        stream.write_all(&[7; 32]).unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        let no_replicas = br#"{"Rows":0}"#;
        let answer = [
            &[7; 32][..],
            &(no_replicas.len() as u32).to_be_bytes(),
            no_replicas,
        ]
        .concat();
        stream.write_all(&answer).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = ask(&cluster.engine(0, token()), "select count(*) from replicas").unwrap_err();
    assert!(error.to_string().contains("does not prove the token"), "{error}");
    answers.join().unwrap();
}

/// It gives some rows, and then cannot give the rest.
struct Broken(Arc<dyn Table>);

impl Table for Broken {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let broken = std::iter::once(Err(Unread("the disk is gone".into())));
        Box::new(self.0.scan(scan).take(3).chain(broken))
    }
}

#[test]
fn rows_that_break_off_are_an_error_and_never_missing() {
    let cluster = Cluster::start(|process, epoch| match process {
        0 => numbers(process, epoch),
        _ => Arc::new(Broken(numbers(process, epoch))),
    });
    let _servers = cluster.servers();
    let far = ask(&cluster.engine(0, token()), "select count(*) from replicas").unwrap_err();
    assert!(
        far.to_string()
            .ends_with("it broke off; ask again once the cluster is whole"),
        "{far}"
    );
    let near = ask(&cluster.engine(1, token()), "select count(*) from replicas").unwrap_err();
    assert_eq!(near.to_string(), "the disk is gone");
}

#[test]
fn an_epoch_is_kept_for_a_statement_and_no_longer() {
    let cluster = Cluster::start(numbers);
    let _servers = cluster.servers();
    let peers = Peers::new(Arc::clone(&cluster.publishers[0]), 0, token());
    let published = peers.with_replicas(Duration::from_secs(20)).unwrap().unwrap();
    let table = &published.tables["replicas"];
    assert_eq!(table.rows(), 2 * ROWS);
    let first = || -> usize {
        table
            .scan(&Scan::default())
            .map(|batch| batch.unwrap().num_rows())
            .sum()
    };
    assert_eq!(first(), 2 * ROWS);
    // Longer than anything is kept that nobody holds.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(first(), 2 * ROWS);
    assert!(
        cluster.publishers[1]
            .with_replicas_of(published.epoch, Duration::ZERO)
            .is_none()
    );
}
