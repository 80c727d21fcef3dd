//! Position: which file is the last that counts, and what it goes up to.
//!
//! The file is on disk before the position names it, and gets its own name after that: a start finds at most one
//! file to rename, and removes what counts for nothing.

use crate::{Offsets, Partition};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Hidden: a replay of the folder leaves it out.
const NAME: &str = ".position.json";

/// How far the complete files go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// A name for the folder.
    pub(super) id: String,
    /// The number of the last complete file; 0 before the first.
    pub(super) file: u64,
    /// Its name.
    name: String,
    offsets: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    #[serde(flatten)]
    partition: Partition,
    next: u64,
}

impl Position {
    /// The position of `folder`, in which all is put in order; a new one, with a new name, where there is none.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let position = match fs::read(folder.join(NAME)) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("`{NAME}`: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let position = Self {
                    id: new_id()?,
                    file: 0,
                    name: String::new(),
                    offsets: Vec::new(),
                };
                position.store(folder)?;
                position
            }
            Err(error) => return Err(error),
        };
        position.settle(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(".events-") && name.ends_with(".part") {
                fs::remove_file(&path)?;
            }
        }
        Ok(position)
    }

    pub(super) fn offsets(&self) -> Offsets {
        let pair = |standing: &Standing| (standing.partition.clone(), standing.next);
        self.offsets.iter().map(pair).collect()
    }

    /// From now on the next file counts, which is called `name` and goes up to `offsets`.
    pub(super) fn move_to(&mut self, folder: &Path, name: String, offsets: &Offsets) -> io::Result<()> {
        let next = Self {
            id: self.id.clone(),
            file: self.file + 1,
            name,
            offsets: offsets
                .iter()
                .map(|(partition, next)| Standing {
                    partition: partition.clone(),
                    next: *next,
                })
                .collect(),
        };
        next.store(folder)?;
        *self = next;
        Ok(())
    }

    /// Gives the last file its name, if it has not got it.
    pub(super) fn settle(&self, folder: &Path) -> io::Result<()> {
        match fs::rename(part_of(folder, &self.name), folder.join(&self.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(folder),
        }
    }

    fn store(&self, folder: &Path) -> io::Result<()> {
        let part = folder.join(format!("{NAME}.part"));
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        // The name of the file that is about to count must be on disk too.
        sync(folder)?;
        fs::rename(part, folder.join(NAME))?;
        sync(folder)
    }
}

/// Where the file called `name` is while it is written.
pub(super) fn part_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.part"))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn new_id() -> io::Result<String> {
    let mut bytes = [0; 4];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}
