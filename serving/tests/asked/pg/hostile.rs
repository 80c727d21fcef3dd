//! Statements that once ended or blocked the process, asked of a server in a process of its own.

use super::*;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Instant,
};

#[path = "../../../../tests/data/attack/statements.rs"]
mod statements;

/// How long one of them may take; the others have longer, as a machine that is busy may need.
const TIMEOUT: &str = "set statement_timeout = '1s'";

/// The server, and where it listens.
struct Victim {
    process: Child,
    port: u16,
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Victim {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "pg::hostile::the_server_of_the_hostile",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = loop {
            let line = said.next().unwrap().unwrap();
            if let Some((_, port)) = line.split_once("listening on ") {
                break port.trim().parse().unwrap();
            }
        };
        std::thread::spawn(move || said.for_each(drop));
        Self { process, port }
    }

    fn connect(&self) -> postgres::Client {
        let how = format!("host=127.0.0.1 port={} dbname=dbb user=tester", self.port);
        postgres::Client::connect(&how, NoTls).unwrap()
    }

    /// Ticks of all its statement threads; those that have gone count no more.
    fn ticks(&self) -> BTreeMap<String, u64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let stats = tasks.filter_map(|task| {
            let task = task.ok()?;
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, numbers) = stat.rsplit_once(')')?;
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            let ticks = numbers[11].parse::<u64>().ok()? + numbers[12].parse::<u64>().ok()?;
            name.ends_with(dbb_serving::sql::THREAD_NAME)
                .then(|| (task.file_name().to_string_lossy().into_owned(), ticks))
        });
        stats.collect()
    }

    /// Whether a statement thread has computed anything in a while.
    fn is_idle(&self) -> bool {
        let before = self.ticks();
        std::thread::sleep(Duration::from_millis(100));
        let after = self.ticks();
        after
            .iter()
            .all(|(thread, ticks)| before.get(thread).is_none_or(|before| before == ticks))
    }

    fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }
}

#[test]
#[ignore = "is the other process of the test below"]
fn the_server_of_the_hostile() {
    let (_, epochs) = numbers(10_000);
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    println!("listening on {}", server.address().port());
    // Until whoever started it has gone.
    let _ = std::io::stdin().lines().count();
}

#[test]
fn no_statement_ends_or_blocks_the_server_and_none_burns_on() {
    let victim = Victim::start();
    let done = Arc::new(AtomicBool::new(false));
    let bystander = {
        let (mut client, done) = (victim.connect(), Arc::clone(&done));
        std::thread::spawn(move || {
            let (mut answered, mut longest) = (0, Duration::ZERO);
            while !done.load(Ordering::SeqCst) {
                let asked = Instant::now();
                assert_eq!(
                    client.query_one("select 1::int", &[]).unwrap().get::<_, i32>(0),
                    1
                );
                longest = longest.max(asked.elapsed());
                answered += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            (answered, longest)
        })
    };
    // All of them, or those that hold a word; otherwise every third, by chance: unoptimised they take minutes.
    let only = std::env::var("DBB_HOSTILE").ok();
    let of = std::process::id() as usize % 3;
    println!("every third, from {of} on, unless DBB_HOSTILE says which: {only:?}");
    for (n, (line, sql)) in statements::statements().into_iter().enumerate() {
        let asked = match only.as_deref() {
            Some("all") => true,
            Some(word) => line.contains(word),
            None => n % 3 == of,
        };
        if !asked {
            continue;
        }
        let mut client = victim.connect();
        client.simple_query(TIMEOUT).unwrap();
        let asked = Instant::now();
        let outcome = match client.simple_query(&sql) {
            Ok(_) => "answered".to_owned(),
            Err(error) => match error.as_db_error() {
                Some(error) => format!("{} {}", error.code().code(), error.message()),
                None => panic!("the connection is lost: {line}: {error:?}"),
            },
        };
        let took = asked.elapsed();
        wait_for(|| victim.is_idle());
        let idle = asked.elapsed() - took;
        let short: String = outcome.chars().take(150).collect();
        println!(
            "{:>5} ms, idle after {:>5} ms, {:>4} MiB: {line}: {short}",
            took.as_millis(),
            idle.as_millis(),
            victim.memory_mib()
        );
        let mut client = victim.connect();
        assert_eq!(
            client.query_one("select 1::int", &[]).unwrap().get::<_, i32>(0),
            1,
            "after {line}"
        );
    }
    done.store(true, Ordering::SeqCst);
    let (answered, longest) = bystander.join().unwrap();
    println!(
        "meanwhile {answered} were answered, the slowest in {} ms",
        longest.as_millis()
    );
    assert!(answered > 0);
}
