//! The environment file of an instance, from which an operator command takes settings that are neither flags nor variables.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    env_file, files,
    variables::{self, Variables, variable},
};
use crate::core::{exit_code::Exit, start_error::StartError, text::escaped, text::excerpt};

/// The folder of the environment files, as the units in packaging/systemd have it.
pub(super) const FOLDER: &str = "/etc/etcd-await-election";
const EXTENSION: &str = "env";
/// The packages install it: all settings, as comments.
const EXAMPLE: &str = "example";

/// The variables of a file, which was read.
#[derive(Debug)]
pub(super) struct InstanceFile {
    pub(super) path: PathBuf,
    pub(super) variables: Variables,
}

impl InstanceFile {
    /// Reads the file of the instance with this name. `verb` is the command, for errors.
    pub(super) fn of_name(name: &OsStr, folder: &Path, verb: &str) -> Result<Self, StartError> {
        let shown = excerpt(&name.to_string_lossy());
        let refuse = |exit, why: String| Err(StartError::new(exit, format!("{verb} {shown}: {why}")));
        let plain = name.to_str().filter(|name| !name.contains('/') && !name.contains("..") && !name.is_empty());
        let Some(plain) = plain else {
            return refuse(
                Exit::Usage,
                format!("the name of an instance is that of its file, {FOLDER}/NAME.env; for a path use --env-file"),
            );
        };
        let path = folder.join(format!("{plain}.{EXTENSION}"));
        match read(&path) {
            Ok(file) => Ok(file.with_lock(plain)),
            Err((io::ErrorKind::NotFound, _)) => refuse(Exit::Config, format!("{}; {}", missing(&path), known(folder))),
            Err((_, why)) => refuse(Exit::Config, why),
        }
    }

    /// Reads the file at this path.
    pub(super) fn at(path: &Path) -> Result<Self, StartError> {
        let refuse = |why: String| StartError::new(Exit::Config, format!("--env-file: {why}"));
        let file = read(path)
            .map_err(|(kind, why)| refuse(if kind == io::ErrorKind::NotFound { missing(path) } else { why }))?;
        // The units name the lock after the file.
        let in_folder = std::path::absolute(path).is_ok_and(|path| path.parent() == Some(Path::new(FOLDER)));
        let is_env = path.extension() == Some(OsStr::new(EXTENSION));
        match path.file_stem().and_then(OsStr::to_str).filter(|_| in_folder && is_env) {
            Some(name) => Ok(file.with_lock(name)),
            None => Ok(file),
        }
    }

    /// Sets the lock as the units do, if the file does not: they have `Environment=ETCD_AWAIT_ELECTION_LOCK_NAME=%i`.
    fn with_lock(mut self, name: &str) -> Self {
        self.variables.entry(variable("lock_name").into()).or_insert_with(|| name.into());
        self
    }

    /// Returns a warning for each misspelled variable.
    pub(super) fn remarks(&self) -> Vec<String> {
        let unknown = variables::unknown(&self.variables).into_iter();
        unknown.map(|remark| format!("{}: {remark}", escaped(&self.path.to_string_lossy()))).collect()
    }
}

fn read(path: &Path) -> Result<InstanceFile, (io::ErrorKind, String)> {
    let shown = path.display();
    let text = files::read_within_limits(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "; run the command as root, for example with sudo",
            _ => "",
        };
        (error.kind(), format!("could not read {shown}: {error}{remedy}"))
    })?;
    let assignments = env_file::parse(&text);
    let assignments =
        assignments.map_err(|why| (io::ErrorKind::InvalidData, format!("could not read {shown}: {why}")))?;
    let variables = assignments.into_iter().map(|it| (OsString::from(it.name), OsString::from(it.value)));
    Ok(InstanceFile { path: path.to_owned(), variables: variables.collect() })
}

fn missing(path: &Path) -> String {
    format!("there is no file {}", path.display())
}

/// Names the instances that have a file.
fn known(folder: &Path) -> String {
    const MOST: usize = 20;
    let shown = folder.display();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return format!("{shown} cannot be listed: run the command as root, for example with sudo");
        }
        Err(_) => return format!("this host has no {shown}: give --lock-name and --endpoints"),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let names = paths.filter(|path| path.extension() == Some(OsStr::new(EXTENSION)));
    let mut names: Vec<_> = names.filter_map(|path| Some(excerpt(&path.file_stem()?.to_string_lossy()))).collect();
    names.retain(|name| name != EXAMPLE);
    names.sort();
    match names.len() {
        0 => format!("no instance has a file in {shown}: give --lock-name and --endpoints"),
        count if count > MOST => format!("{count} instances have one, such as {}", names[..MOST].join(", ")),
        _ => format!("these instances have one: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn lock(file: &InstanceFile) -> Option<&OsString> {
        file.variables.get(OsStr::new("ETCD_AWAIT_ELECTION_LOCK_NAME"))
    }

    #[test]
    fn the_lock_has_the_name_of_the_instance_unless_the_file_sets_it() {
        let folder = folder(&[("a@1-b.env", "X=1"), ("b.env", "ETCD_AWAIT_ELECTION_LOCK_NAME='other'\n")]);
        let of_name = |name: &str| InstanceFile::of_name(name.as_ref(), folder.path(), "ctl show").expect("a file");
        assert_eq!(lock(&of_name("a@1-b")), Some(&"a@1-b".into()));
        assert_eq!(lock(&of_name("b")), Some(&"other".into()));
        // A file elsewhere is no unit's.
        assert_eq!(lock(&InstanceFile::at(&folder.path().join("a@1-b.env")).expect("a file")), None);
    }

    #[test]
    fn a_name_that_does_not_exist_lists_those_that_do() {
        let files = folder(&[("b.env", ""), ("a.env", ""), ("example.env", ""), ("ca.pem", "")]);
        let refused = |name: &str, folder: &Path| {
            let error = InstanceFile::of_name(name.as_ref(), folder, "ctl show").expect_err(name);
            (error.exit, error.to_string())
        };
        let (exit, text) = refused("c\u{1b}", files.path());
        assert_eq!(exit, Exit::Config);
        assert!(text.starts_with("ctl show c\\u{1b}: there is no file ") && text.ends_with("have one: a, b"), "{text}");
        let (_, text) = refused("c", folder(&[("example.env", "")]).path());
        assert!(
            text.contains("no instance has a file") && text.ends_with("give --lock-name and --endpoints"),
            "{text}"
        );
        assert!(refused("c", Path::new("/nowhere")).1.contains("this host has no /nowhere"));
        for name in ["../a", "a/b", "/etc/passwd", "..", "a..b", ""] {
            let (exit, text) = refused(name, files.path());
            assert!(exit == Exit::Usage && text.ends_with("for a path use --env-file"), "{text}");
        }
    }

    #[test]
    fn an_error_about_a_file_shows_nothing_of_it() {
        let folder = folder(&[("a.env", "ETCD_AWAIT_ELECTION_PASSWORD=secret\0\n")]);
        let error = InstanceFile::at(&folder.path().join("a.env")).expect_err("a zero byte").to_string();
        assert!(
            error.starts_with("--env-file: could not read ") && error.ends_with("line 1 contains a zero byte"),
            "{error}"
        );
        let error = InstanceFile::at(folder.path()).expect_err("a folder").to_string();
        assert!(error.ends_with("not a regular file"), "{error}");
        let error = InstanceFile::at(&folder.path().join("b.env")).expect_err("missing").to_string();
        assert!(error.starts_with("--env-file: there is no file /"), "{error}");
    }
}
