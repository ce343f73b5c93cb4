//! The certificates of one cluster: valid ones, and every kind of invalid one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The DNS name for which every server certificate is valid, besides the addresses: the name of a service for all
/// members.
pub const NAME: &str = "etcd.test";

/// The files of one cluster.
#[derive(Debug)]
pub struct Certificates {
    /// The CA that signed all certificates except the foreign ones.
    pub ca: PathBuf,
    /// The certificate of the members, as servers and as peers.
    pub server: Pair,
    /// A client certificate.
    pub client: Pair,
    /// A client certificate that has expired.
    pub expired: Pair,
    /// A CA that neither members nor clients trust.
    pub foreign_ca: PathBuf,
    /// A client certificate that the foreign CA signed.
    pub foreign: Pair,
    directory: PathBuf,
    /// The names and addresses for which the server certificate is valid.
    hosts: Vec<String>,
    authority: Arc<Authority>,
}

/// Certificate and key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Certificates {
    /// Creates them in `directory`. The server certificate is valid for localhost, 127.0.0.1, [`NAME`] and the
    /// addresses of `members`.
    ///
    /// # Panics
    /// If they cannot be made.
    #[must_use]
    pub fn create(directory: &Path, members: &[String]) -> Self {
        let ca = authority("test CA");
        let foreign_ca = authority("foreign CA");
        let names = hosts(members);
        Self {
            ca: write(directory, "ca.crt", &ca.pem()),
            server: issue(directory, "server", &ca, named("etcd", names.clone())),
            client: issue(directory, "client", &ca, named("candidate", Vec::new())),
            expired: {
                let mut params = named("candidate", Vec::new());
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
                issue(directory, "expired", &ca, params)
            },
            foreign_ca: write(directory, "foreign-ca.crt", &foreign_ca.pem()),
            foreign: issue(directory, "foreign", &foreign_ca, named("candidate", Vec::new())),
            directory: directory.to_owned(),
            hosts: names,
            authority: Arc::new(ca),
        }
    }

    /// Creates certificates for the servers of another cluster, in its `directory`, under the same CA. They are valid
    /// for the old addresses as well, like the certificate of a rebuilt member.
    #[must_use]
    pub fn for_others(&self, directory: &Path, members: &[String]) -> Self {
        let hosts = [self.hosts.as_slice(), members].concat();
        Self {
            ca: self.ca.clone(),
            server: issue(directory, "server", &self.authority, named("etcd", hosts.clone())),
            client: self.client.clone(),
            expired: self.expired.clone(),
            foreign_ca: self.foreign_ca.clone(),
            foreign: self.foreign.clone(),
            directory: directory.to_owned(),
            hosts,
            authority: Arc::clone(&self.authority),
        }
    }

    /// Issues a client certificate with this lifetime.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn short_lived(&self, name: &str, lifetime: Duration) -> Pair {
        let mut params = named("candidate", Vec::new());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        params.not_after = date_time_ymd(1970, 1, 1) + now + lifetime;
        issue(&self.directory, name, &self.authority, params)
    }

    /// Creates another CA, which is not trusted yet.
    #[must_use]
    pub fn next_ca(&self) -> NextCa<'_> {
        NextCa { certificates: self, old: fs::read_to_string(&self.ca).expect("the CA"), new: authority("next CA") }
    }
}

/// The steps from one CA to another. Each step changes the files that members and clients use.
pub struct NextCa<'a> {
    certificates: &'a Certificates,
    old: String,
    new: Authority,
}

impl NextCa<'_> {
    /// Makes members and clients trust both CAs.
    pub fn trust_both(&self) {
        self.trust(&format!("{}{}", self.old, self.new.pem()));
    }

    /// Issues server and client certificates of the new CA.
    pub fn issue(&self) {
        let Certificates { directory, hosts, .. } = self.certificates;
        issue(directory, "server", &self.new, named("etcd", hosts.clone()));
        issue(directory, "client", &self.new, named("candidate", Vec::new()));
    }

    /// Makes members and clients trust only the new CA.
    pub fn trust_only_new(&self) {
        self.trust(&self.new.pem());
    }

    fn trust(&self, pem: &str) {
        write(&self.certificates.directory, "ca.crt", pem);
    }
}

/// Returns the names and addresses for which a server certificate is valid.
fn hosts(members: &[String]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", NAME].map(str::to_owned).to_vec();
    names.extend_from_slice(members);
    names
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = named(name, Vec::new());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages.clear();
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// Valid for servers and clients, as a member is also a client of its peers.
fn named(name: &str, hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn issue(directory: &Path, name: &str, ca: &Authority, params: CertificateParams) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    Pair {
        cert: write(directory, &format!("{name}.crt"), &certificate.pem()),
        key: write(directory, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    // Written beside and renamed, so that a reader finds either the old file or the new one.
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)))
        .and_then(|()| fs::rename(&partial, &path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
