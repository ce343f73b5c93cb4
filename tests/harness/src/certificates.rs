//! Certificates made for one cluster: good ones, and every kind of bad one.

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

/// The name that every server's certificate is good for, besides the addresses: of a service that stands for all members.
pub const NAME: &str = "etcd.test";

/// The files of one cluster.
#[derive(Debug)]
pub struct Certificates {
    /// The CA that signed all but the foreign ones.
    pub ca: PathBuf,
    /// For the members, as servers and towards each other.
    pub server: Pair,
    /// A client's.
    pub client: Pair,
    /// A client's that ended long ago.
    pub expired: Pair,
    /// A CA that nobody here trusts.
    pub foreign_ca: PathBuf,
    /// A client's, signed by the foreign CA.
    pub foreign: Pair,
    directory: PathBuf,
    /// What the server's is good for.
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
    /// Makes them in `directory`. The server's is good for localhost, 127.0.0.1, [`NAME`] and the addresses of `members`.
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

    /// The same for the servers of another cluster, in its `directory`: whoever is given these trusts those. They are good
    /// for the old addresses, too, as the certificate of a member that was set up anew.
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

    /// A client's that ends so soon.
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

    /// Another CA, which nobody trusts yet.
    #[must_use]
    pub fn next_ca(&self) -> NextCa<'_> {
        NextCa { certificates: self, old: fs::read_to_string(&self.ca).expect("the CA"), new: authority("next CA") }
    }
}

/// The steps from one CA to another, each of which takes place in the files that everybody was given.
pub struct NextCa<'a> {
    certificates: &'a Certificates,
    old: String,
    new: Authority,
}

impl NextCa<'_> {
    /// Both are trusted.
    pub fn trust_both(&self) {
        self.trust(&format!("{}{}", self.old, self.new.pem()));
    }

    /// Servers and clients get certificates of the new one.
    pub fn issue(&self) {
        let Certificates { directory, hosts, .. } = self.certificates;
        issue(directory, "server", &self.new, named("etcd", hosts.clone()));
        issue(directory, "client", &self.new, named("candidate", Vec::new()));
    }

    /// The old one is trusted no more.
    pub fn trust_only_new(&self) {
        self.trust(&self.new.pem());
    }

    fn trust(&self, pem: &str) {
        write(&self.certificates.directory, "ca.crt", pem);
    }
}

/// What a server's certificate is good for.
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

/// Servers and clients alike: a member is its peers' client too.
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
    // Beside and renamed: whoever reads it meanwhile finds the old one or the new one.
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)))
        .and_then(|()| fs::rename(&partial, &path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
