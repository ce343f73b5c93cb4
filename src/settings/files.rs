//! The files that settings name: looked at once at the start, so that a wrong one is told before anything begins. They
//! are read again whenever they are used, because they are rotated.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// What a file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// At least one certificate.
    Certificate,
    /// At least one private key.
    Key,
}

/// Looks at a PEM file just enough to tell the usual mistakes from each other.
pub(super) fn check(path: &Path, kind: Kind) -> Result<(), String> {
    let bytes = read(path)?;
    check_pem(&bytes, kind).map_err(|why| format!("{} {why}", path.display()))
}

/// Refuses a client certificate of X.509 version 1, as `openssl x509 -req` makes it without extensions: TLS would fail with it at
/// every endpoint, as if the server were not to be trusted.
pub(super) fn check_version(path: &Path) -> Result<(), String> {
    let bytes = read(path)?;
    match CertificateDer::from_pem_slice(&bytes) {
        Ok(certificate) if is_version_1(&certificate) => Err(format!(
            "{} holds a certificate of X.509 version 1, which cannot be used: issue it as version 3, with extensions",
            path.display()
        )),
        // What is wrong with it is not this.
        _ => Ok(()),
    }
}

/// A certificate begins with two sequences; the inner one with a tag of its own (0xa0) for any version but the first.
fn is_version_1(der: &[u8]) -> bool {
    let content = |der: &[u8]| match *der {
        [0x30, length, ..] if length < 0x80 => Some(2),
        [0x30, length, ..] => Some(2 + usize::from(length & 0x7f)),
        _ => None,
    };
    let inner = content(der).and_then(|begin| der.get(begin..));
    let first = inner.and_then(|inner| inner.get(content(inner)?));
    first.is_some_and(|tag| *tag == 0x02)
}

/// What others than its owner and its group may do with a file that they should not, in the words of a warning: read or write a
/// key or a password, write a certificate.
pub(super) fn exposed(path: &Path, secret: bool) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let may = match (mode & 0o004 != 0 && secret, mode & 0o002 != 0) {
        (true, true) => "read and write",
        (true, false) => "read",
        (false, true) => "write",
        (false, false) => return None,
    };
    Some(format!("every user of this machine can {may} {}: take that right away (chmod o-rw)", path.display()))
}

/// The first line of a file, for a password; its end of line is not part of it.
pub(super) fn first_line(path: &Path) -> Result<String, String> {
    let bytes = read(path)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(format!("{} has an empty first line: the password must stand there", path.display())),
        Ok(line) => Ok(line.to_owned()),
        Err(_) => Err(format!("{} is not text: its first line must be the password", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_within_limits(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Reads a regular file of at most 1 MiB.
pub(crate) fn read_within_limits(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    // A pipe, as of a shell's <(…), could be read only once, and a device for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other("it is larger than 1 MiB: this cannot be the right file"));
    }
    Ok(bytes)
}

fn check_pem(bytes: &[u8], kind: Kind) -> Result<(), String> {
    let what = match kind {
        Kind::Certificate => "certificate",
        Kind::Key => "private key",
    };
    if bytes.is_empty() {
        return Err(format!("is empty: it must hold a {what}"));
    }
    // DER begins with the tag of a sequence and a length of several bytes.
    if matches!(bytes, [0x30, 0x80..=0x84, ..]) {
        return Err(format!("is not PEM (it looks like DER): convert it to PEM to use its {what}"));
    }
    let text = String::from_utf8_lossy(bytes);
    let labels: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")).collect();
    let wanted = |label: &&&str| match kind {
        Kind::Certificate => **label == "CERTIFICATE",
        Kind::Key => matches!(**label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY"),
    };
    match labels.iter().find(wanted) {
        Some(_) if kind == Kind::Key && text.contains("Proc-Type: 4,ENCRYPTED") => Err(ENCRYPTED.into()),
        Some(label) if !text.contains(&format!("-----END {label}-----")) => {
            Err(format!("is cut short: there is no end of its {what}"))
        }
        Some(_) => Ok(()),
        None if kind == Kind::Key && labels.contains(&"ENCRYPTED PRIVATE KEY") => Err(ENCRYPTED.into()),
        None if labels.is_empty() => Err(format!("holds no {what}: it is not PEM")),
        None => Err(format!("holds no {what}, but {}: is it the right file?", labels.join(", "))),
    }
}

const ENCRYPTED: &str = "holds an encrypted private key: nobody could be asked for its passphrase, decrypt it";

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str) -> String {
        format!("Some text\n-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n")
    }

    #[test]
    fn pem_of_the_right_kind() {
        for (text, kind) in [
            (pem("CERTIFICATE"), Kind::Certificate),
            (pem("PRIVATE KEY") + &pem("CERTIFICATE"), Kind::Certificate),
            (pem("PRIVATE KEY"), Kind::Key),
            (pem("EC PARAMETERS") + &pem("EC PRIVATE KEY"), Kind::Key),
            (pem("RSA PRIVATE KEY").replace('\n', "\r\n"), Kind::Key),
        ] {
            assert_eq!(check_pem(text.as_bytes(), kind), Ok(()), "{text}");
        }
    }

    #[test]
    fn each_wrong_file_is_told_why() {
        for (bytes, kind, why) in [
            (b"".to_vec(), Kind::Key, "is empty"),
            (vec![0x30, 0x82, 1, 1], Kind::Certificate, "looks like DER"),
            (b"hello".to_vec(), Kind::Certificate, "holds no certificate: it is not PEM"),
            (pem("PRIVATE KEY").into(), Kind::Certificate, "holds no certificate, but PRIVATE KEY"),
            (pem("CERTIFICATE").into(), Kind::Key, "holds no private key, but CERTIFICATE"),
            (pem("ENCRYPTED PRIVATE KEY").into(), Kind::Key, "encrypted"),
            (pem("RSA PRIVATE KEY").replace("TUl", "Proc-Type: 4,ENCRYPTED\n").into(), Kind::Key, "encrypted"),
            (b"-----BEGIN CERTIFICATE-----\nTUl".to_vec(), Kind::Certificate, "cut short"),
            (vec![0xff; 9], Kind::Key, "holds no private key"),
        ] {
            let refused = check_pem(&bytes, kind).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

    /// By `openssl x509 -req -in a.csr -signkey a.key`.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBETCBuQIUN0q0eEu73VTfWt/tGhyrQwz8y/wwCgYIKoZIzj0EAwIwDDEKMAgG\n\
        A1UEAwwBYTAeFw0yNjExMjQyMDM0NDZaFw0zNjExMjEyMDM0NDZaMAwxCjAIBgNV\n\
        BAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARPWpeGWEsBYWv0+Uo88gHp\n\
        MOPih8UOC7SL7CZqWEZJy7wXlRqNmkTYu4L1h5RZaVXbo990fXJKP3obLr4ExXkU\n\
        MAoGCCqGSM49BAMCA0cAMEQCIDrLM1bRYEqMTPj3XT9wtDL3u69/HNWnAhzAFLLl\n\
        7vMuAiAzcaqbgSRDQBK8Oy5cowlagc4yNyrI5T0tuVYoUSjPpQ==\n\
        -----END CERTIFICATE-----\n\
        ";

    #[test]
    fn a_client_certificate_of_version_1_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let check = |text: &str| {
            fs::write(file.path(), text).expect("written");
            check_version(file.path())
        };
        let refused = check(VERSION_1).expect_err("version 1");
        assert!(refused.starts_with(&file.path().display().to_string()), "{refused}");
        assert!(refused.contains("X.509 version 1"), "{refused}");
        // Of a version that is named: 30 81 .. 30 81 .. a0, and 30 .. 30 .. a0.
        assert!(!is_version_1(&[0x30, 0x81, 0xff, 0x30, 0x81, 0xfc, 0xa0, 0x03, 0x02, 0x01, 0x02]));
        assert!(!is_version_1(&[0x30, 0x70, 0x30, 0x60, 0xa0, 0x03, 0x02, 0x01, 0x02]));
        assert!(is_version_1(&[0x30, 0x70, 0x30, 0x60, 0x02, 0x01, 0x07]));
        for other in [&b""[..], &[0x30], &[0x30, 0xff], &[0x30, 0x70, 0x30], &[4, 2, 0x02]] {
            assert!(!is_version_1(other), "{other:?}");
        }
        assert_eq!(check(&pem("CERTIFICATE")), Ok(()), "something else is wrong with it");
    }

    #[test]
    fn the_first_line_is_the_password() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |text: &[u8]| {
            fs::write(file.path(), text).expect("written");
            first_line(file.path())
        };
        for text in ["s3 cret", "s3 cret\n", "s3 cret\r\n", "s3 cret\nmore\n"] {
            assert_eq!(read(text.as_bytes()), Ok("s3 cret".to_owned()), "{text:?}");
        }
        for text in [&b""[..], b"\nx", b"\xff\n"] {
            let refused = read(text).expect_err("no password");
            assert!(refused.starts_with(&file.path().display().to_string()), "{refused}");
        }
    }

    #[test]
    fn what_others_can_read_or_write_is_told() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (mode, secret, may) in [
            (0o600, true, None),
            (0o640, true, None),
            (0o644, true, Some("read")),
            (0o642, true, Some("write")),
            (0o666, true, Some("read and write")),
            (0o644, false, None),
            (0o646, false, Some("write")),
        ] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("its owner's to set");
            let told = exposed(file.path(), secret);
            let expected = may.map(|may| format!("every user of this machine can {may} {}", file.path().display()));
            assert!(
                match (&told, &expected) {
                    (Some(told), Some(expected)) => told.starts_with(expected),
                    (told, expected) => told == expected,
                },
                "{mode:o}: {told:?}"
            );
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for (path, why) in
            [("/nowhere/x", "cannot be read"), ("/", "not a regular file"), ("/dev/zero", "not a regular")]
        {
            assert!(read(Path::new(path)).expect_err(path).contains(why), "{path}");
        }
    }
}
