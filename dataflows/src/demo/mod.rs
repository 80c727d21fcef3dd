//! `dbb demo`: a site from nothing to proof, with a real Butler and the very program a site would run.
//!
//! ```text
//!   files, events, oracle --> (Kafka) --> dbb run --run-once --> planted faults --> dbb explain --> ask the Butler
//! ```
//!
//! In:    a Python that has `lsst.daf.butler`; brokers, if it is to go through Kafka.
//! Out:   a report on standard output; exit code 0 if everything came out as it must, else 1.
//! State: a folder, removed at the end unless it is to be kept.

mod expected;
mod outcomes;
mod publish;
mod report;
mod script;

pub use expected::{Expected, ExpectedEvent, Totals};
pub use outcomes::Outcomes;
pub use publish::{Published, publish};
pub use report::Happened;
pub use script::SiteScript;

use anyhow::{Context, Result, ensure};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

/// What `dbb demo` is told.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The interpreter that has a Butler.
    pub python: PathBuf,
    /// Where to make the site, a folder that is empty or not there yet; a temporary one if not given.
    pub dir: Option<PathBuf>,
    /// `host:port,...` of brokers to publish to and read from; the log source if not given.
    pub kafka: Option<String>,
    /// Good files, besides the planted faults.
    pub files: usize,
    /// True if a temporary folder is to stay.
    pub keep: bool,
}

/// Makes a site, runs `dbb` on it, and proves what came of it.
///
/// # Errors
///
/// The site could not be made, or `dbb` itself failed; dead letters are no failure here.
pub fn demo(mut options: DemoOptions) -> Result<ExitCode> {
    if options.python.components().count() > 1 {
        // Not canonical: the link is what tells an interpreter of its virtual environment.
        options.python = std::path::absolute(&options.python)?;
    }
    let script = SiteScript::unpack(&options.python)?;
    let folder = Folder::of(options.dir.as_deref(), options.keep)?;
    let dir = folder.path();

    say(&format!("Making a small site in {} ...", dir.display()));
    make(&script, &options, dir)?;
    let expected = Expected::read(dir)?;
    say(&format!(
        "  {} events for a Butler, {} of them delivered twice, among {} for nobody here",
        expected.totals.events, expected.totals.repeats, expected.totals.not_for_us
    ));
    if let Some(brokers) = &options.kafka {
        let published = publish(brokers, &dir.join("events"), 3)?;
        say(&format!(
            "  published {} records to {}",
            published.records,
            published.topics.join(", ")
        ));
    }

    let config = dir.join("dbb.yaml");
    let started = Instant::now();
    let status = dbb(&["run".as_ref(), config.as_ref(), "--run-once".as_ref()])?;
    // 1 tells of dead letters, of which there must be some.
    ensure!(
        matches!(status, Some(0 | 1)),
        "dbb run failed; `dbb demo --dir DIR` leaves the site for a look"
    );
    say(&format!("  done in {:.1} s\n", started.elapsed().as_secs_f64()));

    let outcomes = Outcomes::read(&ledger_url(dir), &expected)?;
    let (planted, mut differences) = report::planted(&expected, &outcomes.happened, dir);
    if outcomes.rows != outcomes.happened.len() as u64 {
        differences.push(format!(
            "the ledger has {} rows, of which {} are of the events that were made",
            outcomes.rows,
            outcomes.happened.len()
        ));
    }
    say("What became of the planted faults and old forms:");
    println!("{planted}");
    if let Some(did) = report::worth_telling(&outcomes.happened) {
        say("The story of one file:");
        dbb(&["explain".as_ref(), config.as_ref(), did.as_ref()])?;
        println!();
    }

    say("What the Butler itself says:");
    let verified = script.run(["verify".as_ref(), dir.as_os_str()])?;
    print!("{}", String::from_utf8_lossy(&verified.stdout));
    if !verified.status.success() {
        differences.push(format!(
            "the Butler does not hold what it must: {}",
            last_line(&verified.stderr)
        ));
    }
    conclude(&differences, &folder)
}

fn make(script: &SiteScript, options: &DemoOptions, dir: &Path) -> Result<()> {
    let mut arguments: Vec<OsString> = vec!["make".into(), dir.into()];
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--repositories", "main,prep".into());
    option("--files", options.files.to_string().into());
    option("--python", options.python.clone().into());
    option("--ledger", ledger_url(dir).into());
    if let Some(brokers) = &options.kafka {
        option("--kafka", brokers.into());
    }
    script.must(arguments).map(drop)
}

/// Runs this very program with other arguments, as a user would, and shows the command.
fn dbb(arguments: &[&OsStr]) -> Result<Option<i32>> {
    let program = env::current_exe().context("could not find the program itself")?;
    let shown: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    say(&format!("$ dbb {}", shown.join(" ")));
    let status = Command::new(&program).args(arguments).status();
    Ok(status
        .with_context(|| format!("could not start {}", program.display()))?
        .code())
}

fn conclude(differences: &[String], folder: &Folder) -> Result<ExitCode> {
    println!();
    if let Folder::Given(path) = folder {
        say(&format!(
            "The site stays in {}: try `dbb dead-letters list` with its dbb.yaml.",
            path.display()
        ));
    }
    if differences.is_empty() {
        say("Every event has its outcome, and the Butler holds exactly what it must.");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "{} things are not as they should be:",
        differences.len()
    ));
    for difference in differences {
        println!("  {difference}");
    }
    Ok(ExitCode::FAILURE)
}

fn last_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim()
        .lines()
        .last()
        .unwrap_or("see above")
        .into()
}

fn say(line: &str) {
    println!("{line}");
}

fn ledger_url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("ledger.sqlite").display())
}

/// The folder of the site.
enum Folder {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    /// The folder at `dir`, or a new temporary one. A temporary one that is kept is as one given.
    fn of(dir: Option<&Path>, keep: bool) -> Result<Self> {
        let Some(dir) = dir else {
            let made = tempfile::Builder::new().prefix("dbb-demo-").tempdir();
            let made = made.context("could not make a temporary folder")?;
            return Ok(if keep {
                Self::Given(made.keep())
            } else {
                Self::Temporary(made)
            });
        };
        fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
        let mut entries = fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))?;
        ensure!(
            entries.next().is_none(),
            "{} is not empty: the demo makes a site of its own",
            dir.display()
        );
        Ok(Self::Given(dir.canonicalize()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
