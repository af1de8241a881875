//! The certificate authorities that servers are believed by.

use std::path::{Path, PathBuf};

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::load_certs_from_paths;

use super::config::Config;
use super::error::{Cause, Failure};

/// Where distributions keep the certificates of all authorities in one file.
pub const AUTHORITY_FILES: [&str; 6] = [
    // Debian, Ubuntu, Alpine, Arch, Gentoo
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    // Alpine without the package's links, the BSDs
    "/etc/ssl/cert.pem",
];
/// Where they keep a file for each.
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Which authorities are trusted.
#[derive(Debug)]
pub(super) struct Authorities {
    /// The first of these that holds any is the machine's.
    usual: Vec<PathBuf>,
    file: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Authorities {
    /// The machine's, and those that the settings name.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            usual: AUTHORITY_FILES.iter().chain(&FOLDERS).map(PathBuf::from).collect(),
            file: config.ca_file.clone(),
            folders: config.ca_dirs.clone(),
        }
    }

    /// Reads them. Where neither the machine nor a folder of the settings has any, those that Mozilla
    /// trusts are built in; a file of the settings is always trusted beside the others.
    ///
    /// # Errors
    ///
    /// Fails for a file or folder of the settings that cannot be read, and for a file without
    /// certificates.
    pub(super) fn load(&self) -> Result<Vec<Certificate>, Failure> {
        let mut found =
            self.usual.iter().map(|path| usable(&read(path).certs)).find(|found| !found.is_empty());
        for folder in &self.folders {
            let read = read(folder);
            // A file among others may be anything; a folder that cannot be read is a mistake.
            if read.certs.is_empty()
                && let Some(error) = read.errors.first()
            {
                return Err(unusable("folder", folder, &error.to_string()));
            }
            found.get_or_insert_default().extend(usable(&read.certs));
        }
        let mut found = match found {
            Some(found) if !found.is_empty() => found,
            _ => usable(webpki_root_certs::TLS_SERVER_ROOT_CERTS),
        };
        if let Some(file) = &self.file {
            let pem = std::fs::read(file).map_err(|error| unusable("file", file, &error.to_string()))?;
            let named = Certificate::from_pem_bundle(&pem);
            let named = named.map_err(|_| unusable("file", file, "it is not in PEM format"))?;
            if named.is_empty() {
                return Err(unusable("file", file, "it holds no certificate"));
            }
            found.extend(named);
        }
        Ok(found)
    }
}

fn unusable(kind: &str, path: &Path, why: &str) -> Failure {
    Failure::lasting(Cause::Configuration(format!("the CA {kind} {} cannot be used: {why}", path.display())))
}

/// The certificates of a file, or of the files in a folder.
fn read(path: &Path) -> rustls_native_certs::CertificateResult {
    if path.is_dir() {
        load_certs_from_paths(None, Some(path))
    } else {
        load_certs_from_paths(Some(path), None)
    }
}

/// Those that can be trusted at all: machines keep some that are broken or of old kinds.
fn usable(certificates: &[CertificateDer<'_>]) -> Vec<Certificate> {
    let good = |der: &&CertificateDer<'_>| RootCertStore::empty().add((*der).clone().into_owned()).is_ok();
    certificates.iter().filter(good).filter_map(|der| Certificate::from_der(der).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate in PEM format.
    fn pem(der: &CertificateDer<'_>) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn places() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let known = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        std::fs::write(path("one.pem"), pem(&known[0])).unwrap();
        std::fs::write(path("two.pem"), pem(&known[1]) + &pem(&known[2])).unwrap();
        std::fs::write(path("broken.pem"), pem(&CertificateDer::from(&b"none"[..]))).unwrap();
        std::fs::write(path("text"), "no certificate").unwrap();
        std::fs::create_dir(path("empty")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::copy(path("two.pem"), path("folder/2.0")).unwrap();
        std::fs::copy(path("text"), path("folder/readme")).unwrap();
        let count = |usual: &[&str], folders: &[&str], file: Option<&str>| {
            let paths = |names: &[&str]| names.iter().map(|name| path(name)).collect();
            let authorities =
                Authorities { usual: paths(usual), folders: paths(folders), file: file.map(path) };
            authorities.load().map(|found| found.len()).map_err(|failure| failure.cause.to_string())
        };
        let built_in = known.len();
        assert!(built_in > 50);
        for (usual, folders, file, want) in [
            // The machine's; the first place that has any.
            (&["no", "text", "broken.pem", "one.pem", "two.pem"][..], &[][..], None, 1),
            (&["empty", "folder"], &[], None, 2),
            (&["one.pem"], &["folder"], None, 3),
            (&["one.pem"], &["empty"], Some("two.pem"), 3),
            (&["no"], &["folder"], None, 2),
            // None of the machine's.
            (&["no", "empty", "broken.pem"], &[], None, built_in),
            (&[], &["empty"], None, built_in),
            (&[], &[], Some("one.pem"), built_in + 1),
        ] {
            assert_eq!(count(usual, folders, file), Ok(want), "{usual:?} {folders:?} {file:?}");
        }
        for (folders, file, want) in [
            (&["no"][..], None, "the CA folder "),
            (&[], Some("no"), "the CA file "),
            (&[], Some("text"), "it holds no certificate"),
        ] {
            let error = count(&["one.pem"], folders, file).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
