//! `etcdctl` for one cluster: how the tests see the content of etcd, independently of the program.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{names::Names, process::Process};

/// An `etcdctl` with the options for one cluster.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    /// The options of every call.
    pub(crate) options: Vec<OsString>,
    pub(crate) names: Option<Names>,
}

/// One key in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Its lease; 0 for none.
    pub lease: i64,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: i64,
}

impl Etcdctl {
    /// Runs one command and returns its output.
    ///
    /// # Errors
    /// With its output, if it does not succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().map_err(|error| format!("could not start etcdctl: {error}"))?;
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        if status.success() {
            Ok(stdout)
        } else {
            Err(format!("etcdctl {}: {status}: {stdout}{}", arguments.join(" "), String::from_utf8_lossy(&stderr)))
        }
    }

    /// Runs one command, which must succeed, and returns its output.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        self.run(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a long-running command, such as `elect` or `lock`.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(command)
    }

    /// Starts a long-running command whose output goes to a file.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn start_writing(&self, arguments: &[&str], file: &Path) -> Process {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(File::create(file).expect("a file for it")).stderr(Stdio::null());
        Process::start(command)
    }

    /// Puts a key with an arbitrary name and value.
    ///
    /// # Panics
    /// If etcd rejects it.
    #[track_caller]
    pub fn put(&self, key: &[u8], value: &[u8], lease: Option<i64>) {
        let mut command = self.command(&["put"]);
        command.arg(OsStr::from_bytes(key)).args(lease.map(|lease| format!("--lease={lease:x}")));
        // Without an argument `etcdctl` reads the value from standard input.
        run_with_input(command, value);
    }

    /// Puts many small keys in a few transactions. Names and values must be single words.
    ///
    /// # Panics
    /// If etcd rejects them.
    #[track_caller]
    pub fn put_all(&self, names: impl IntoIterator<Item = String>, value: &str, lease: Option<i64>) {
        let option = lease.map(|lease| format!(" --lease={lease:x}")).unwrap_or_default();
        let puts: Vec<_> = names.into_iter().map(|name| format!("put {name} {value}{option}\n")).collect();
        // etcd accepts at most 128 operations in one transaction.
        for puts in puts.chunks(128) {
            run_with_input(self.command(&["txn"]), format!("\n{}\n\n", puts.concat()).as_bytes());
        }
    }

    /// Changes a user's password.
    ///
    /// # Panics
    /// If etcd rejects it.
    #[track_caller]
    pub fn change_password(&self, user: &str, password: &str) {
        run_with_input(
            self.command(&["user", "passwd", user, "--interactive=false"]),
            format!("{password}\n").as_bytes(),
        );
    }

    /// Grants a lease of whole seconds; returns its id.
    ///
    /// # Panics
    /// If etcd rejects it.
    #[must_use]
    #[track_caller]
    pub fn grant(&self, ttl: Duration) -> i64 {
        let granted = self.json(&["lease", "grant", &ttl.as_secs().to_string()]).expect("etcd grants");
        granted["ID"].as_i64().or_else(|| granted["id"].as_i64()).expect("an id")
    }

    /// Returns the call as a shell command line.
    #[must_use]
    pub fn line(&self) -> String {
        let words = std::iter::once(binary()).chain(self.options.iter().cloned());
        let quoted: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
        format!("ETCDCTL_API=3 {}", quoted.join(" "))
    }

    /// Returns all keys with a prefix, oldest first.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn keys(&self, prefix: &str) -> Result<Vec<Key>, String> {
        let answer = self.json(&["get", prefix, "--prefix", "--sort-by=CREATE"])?;
        let number = |key: &Value, name: &str| key[name].as_i64().unwrap_or(0);
        let text = |key: &Value, name: &str| decode(key[name].as_str().unwrap_or(""));
        let keys = answer["kvs"].as_array().map_or_else(Vec::new, |keys| {
            keys.iter()
                .map(|key| Key {
                    name: text(key, "key"),
                    value: text(key, "value"),
                    lease: number(key, "lease"),
                    create_revision: number(key, "create_revision"),
                    mod_revision: number(key, "mod_revision"),
                })
                .collect()
        });
        Ok(keys)
    }

    /// Returns the revision of the store, which every write increases.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn revision(&self) -> Result<i64, String> {
        let answer = self.json(&["get", "tests/none"])?;
        answer["header"]["revision"].as_i64().ok_or_else(|| format!("no revision: {answer}"))
    }

    /// Returns the id of the cluster that answers.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn cluster_id(&self) -> Result<u64, String> {
        let answer = self.json(&["get", "tests/none"])?;
        answer["header"]["cluster_id"].as_u64().ok_or_else(|| format!("no cluster id: {answer}"))
    }

    /// Returns all leases.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn leases(&self) -> Result<Vec<i64>, String> {
        let answer = self.json(&["lease", "list"])?;
        let ids = answer["leases"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(ids.iter().filter_map(|lease| lease["id"].as_i64().or_else(|| lease["ID"].as_i64())).collect())
    }

    /// Revokes a lease, which deletes its keys.
    ///
    /// # Panics
    /// If etcd rejects it.
    #[track_caller]
    pub fn revoke(&self, lease: i64) {
        self.must(&["lease", "revoke", &format!("{lease:x}")]);
    }

    /// Runs one command and returns its output as JSON.
    ///
    /// # Errors
    /// With its output, if it does not succeed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut arguments = arguments.to_vec();
        arguments.push("--write-out=json");
        let text = self.run(&arguments)?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text:?}"))
    }

    /// Adds options. The last value of an option wins, except that endpoints add up.
    #[must_use]
    pub fn with(&self, options: &[&str]) -> Self {
        let mut etcdctl = self.clone();
        etcdctl.options.extend(options.iter().map(OsString::from));
        etcdctl
    }

    /// Sets the time limit of each call, instead of five seconds.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        self.with(&[&format!("--command-timeout={}ms", limit.as_millis())])
    }

    /// Makes it resolve names only by `names`.
    #[must_use]
    pub fn names(&self, names: &Names) -> Self {
        Self { names: Some(names.clone()), ..self.clone() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env("ETCDCTL_API", "3").args(&self.options).args(arguments);
        if let Some(names) = &self.names {
            names.apply_to(&mut command);
        }
        command
    }
}

/// Runs a command with this standard input; it must succeed.
#[track_caller]
fn run_with_input(mut command: Command, input: &[u8]) {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("etcdctl starts");
    child.stdin.take().expect("it is piped").write_all(input).expect("etcdctl reads");
    assert!(child.wait().expect("it ends").success(), "{command:?}");
}

/// Returns the path of `etcdutl`, which is beside `etcdctl`; etcd 3.4 has none.
#[must_use]
pub fn etcdutl() -> Option<PathBuf> {
    let beside = Path::new(&binary()).with_file_name("etcdutl");
    let found = Command::new(&beside).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok().then_some(beside)
}

/// Returns the program that `ETCDCTL_BIN` names, or `etcdctl`: each version of etcd has its own.
fn binary() -> OsString {
    std::env::var_os("ETCDCTL_BIN").unwrap_or_else(|| "etcdctl".into())
}

/// Decodes Base64, as `etcdctl` prints keys and values; skips all other characters.
fn decode(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|&letter| letter == byte)) {
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("masked"));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode("YQ=="), "a");
        assert_eq!(decode("bG9jay8wYWI="), "lock/0ab");
        assert_eq!(decode(""), "");
    }
}
