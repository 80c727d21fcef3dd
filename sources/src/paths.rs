//! Paths: what is at or below a path that was named, and what of it is not read, by name.
//!
//! ```text
//!   named path --> files, each once       a pipe, where it was named itself
//!             \--> left out: links that lead nowhere or back, folders that cannot be read, pipes in folders
//! ```
//!
//! Hidden files are passed over, unless the path itself is one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, FileType, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files, in the order of their names.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Named paths that can be read once, and not looked at before.
    pub(crate) pipes: BTreeSet<PathBuf>,
    /// What is not read, and why.
    pub(crate) left_out: BTreeMap<PathBuf, String>,
}

/// The path that is meant: `-` is standard input.
pub(crate) fn meant(path: &Path) -> &Path {
    if path == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        path
    }
}

impl Found {
    /// Adds what is at or below `named`.
    ///
    /// # Errors
    ///
    /// It is not there, or cannot be read itself.
    pub(crate) fn look(&mut self, named: &Path) -> io::Result<()> {
        let metadata = fs::metadata(named)?;
        if metadata.is_dir() {
            return self.look_below(named);
        }
        if metadata.is_file() {
            self.files.insert(named.to_owned());
        } else if metadata.file_type().is_fifo() || metadata.file_type().is_char_device() {
            self.pipes.insert(named.to_owned());
        } else {
            let kind = special(metadata.file_type());
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it is {kind}"),
            ));
        }
        Ok(())
    }

    /// Folders are gone through before links to folders: a folder has the names that lead straight to it.
    fn look_below(&mut self, named: &Path) -> io::Result<()> {
        let mut seen: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
        let mut folders = VecDeque::from([named.to_owned()]);
        let mut links: VecDeque<PathBuf> = VecDeque::new();
        while let Some(folder) = folders.pop_front().or_else(|| links.pop_front()) {
            let is_named = folder == named;
            let entries = fs::metadata(&folder).and_then(|metadata| {
                if let Some(first) = seen.get(&identity(&metadata)) {
                    return Ok(Err(format!("it leads to `{}`, which is read", first.display())));
                }
                let entries = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
                seen.insert(identity(&metadata), folder.clone());
                Ok(Ok(entries))
            });
            let mut entries = match entries {
                Ok(Ok(entries)) => entries,
                Ok(Err(why)) => {
                    self.left_out.insert(folder, why);
                    continue;
                }
                Err(error) if is_named => return Err(error),
                // Removed while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.left_out.insert(folder, error.to_string());
                    continue;
                }
            };
            entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push_back(path),
                    Ok(kind) if kind.is_symlink() => match fs::metadata(&path) {
                        Ok(metadata) if metadata.is_dir() => links.push_back(path),
                        found => self.entry(path, found.map(|metadata| metadata.file_type())),
                    },
                    found => self.entry(path, found),
                }
            }
        }
        Ok(())
    }

    /// Adds something in a folder that is no folder.
    fn entry(&mut self, path: PathBuf, found: io::Result<FileType>) {
        let why = match found {
            Ok(kind) if kind.is_file() => {
                self.files.insert(path);
                return;
            }
            Ok(kind) => format!(
                "it is {}; what is to be read of a pipe is named itself",
                special(kind)
            ),
            // Removed while we looked, or a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(&path).is_err() {
                    return;
                }
                "it is a link that leads nowhere".into()
            }
            Err(error) => error.to_string(),
        };
        self.left_out.insert(path, why);
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() {
        "a disk"
    } else if kind.is_char_device() {
        "a device"
    } else {
        "no file"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::{fs::symlink, net::UnixListener};

    #[test]
    fn a_folder_is_read_whatever_links_are_in_it_and_they_are_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("z/deep")).unwrap();
        for name in ["1", "z/2", "z/deep/3", ".hidden"] {
            fs::write(at(name), name).unwrap();
        }
        symlink(folder.path(), at("a-loop")).unwrap();
        symlink("..", at("z/deep/up")).unwrap();
        symlink("z", at("again")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("itself", at("itself")).unwrap();
        symlink("1", at("file-link")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        let mut found = Found::default();
        found.look(folder.path()).unwrap();
        let names = |paths: &mut dyn Iterator<Item = &PathBuf>| -> Vec<String> {
            let name = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            paths.map(name).collect()
        };
        assert_eq!(
            names(&mut found.files.iter()),
            ["1", "file-link", "z/2", "z/deep/3"]
        );
        assert_eq!(
            names(&mut found.left_out.keys()),
            ["a-loop", "again", "dangling", "itself", "socket", "z/deep/up"]
        );
        assert!(found.left_out[&at("again")].contains("/z`"), "{found:?}");
        assert!(found.left_out[&at("dangling")].contains("nowhere"), "{found:?}");
        assert!(found.look(&at("dangling")).is_err());
        assert!(
            found
                .look(&at("socket"))
                .unwrap_err()
                .to_string()
                .contains("socket")
        );
        assert!(found.pipes.is_empty());
        found.look(Path::new("/dev/null")).unwrap();
        assert_eq!(found.pipes.len(), 1);
    }

    #[test]
    fn standard_input_has_a_short_name() {
        assert_eq!(meant(Path::new("-")), Path::new("/dev/stdin"));
        assert_eq!(meant(Path::new("./-")), Path::new("./-"));
    }
}
