//! Downloads: which file a URL gave when it was last asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::image::{Descriptor, Digest};
use crate::registry::{WebFile, WebUrl};

/// What a URL gave. Neither the URL nor any part of it is kept: it may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// Stands for the URL.
    url: Digest,
    /// The file's entity tag, as the server wrote it.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as the server wrote it.
    pub last_modified: Option<String>,
    /// The same in seconds since 1970.
    pub mtime: Option<i64>,
    /// Digest of its bytes, which are a blob of the store.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
}

impl DownloadRecord {
    /// The record of a file that `url` has just given.
    pub fn new(url: &WebUrl, file: &WebFile) -> Self {
        Self {
            url: url.key(),
            etag: file.etag.clone(),
            last_modified: file.last_modified.clone(),
            mtime: file.mtime,
            digest: file.digest,
            size: file.size,
        }
    }
}

impl Store {
    /// What `url` gave, where that is still here. User and password of the URL do not count: the server
    /// must be asked anyway whether the file is still the current one.
    pub fn download(&self, url: &WebUrl) -> Option<DownloadRecord> {
        let key = url.key();
        let record: DownloadRecord = self.read_record(&self.used("downloads", &key))?;
        let blob = Descriptor::new("", record.digest, record.size);
        (record.url == key && self.has_blob(&blob)).then_some(record)
    }

    /// Remembers what a URL gave. Its bytes must be a blob of the store by now.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_download(&self, record: &DownloadRecord) -> Result<(), StoreError> {
        self.write_record(&self.place("downloads", &record.url), record)
    }

    /// Where a downloaded blob lies, after reading it as a whole: nothing checks it later, as the digest
    /// of its content checks a layer. A damaged blob is dropped, so that it is fetched again.
    pub fn verified_blob(&self, digest: &Digest, size: u64) -> Option<PathBuf> {
        self.verify_blob(&Descriptor::new("", *digest, size)).then(|| self.blob_path(digest))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn url(text: &str) -> WebUrl {
        text.parse().unwrap()
    }

    fn stored(root: &std::path::Path) -> (Store, DownloadRecord) {
        let store = Store::open(root).unwrap();
        let digest = store.put_blob(b"content").unwrap();
        let file =
            WebFile { digest, size: 7, etag: Some("\"e\"".into()), last_modified: None, mtime: Some(5) };
        let record = DownloadRecord::new(&url("https://u:hunter2@h.io/f?sig=hunter3"), &file);
        store.put_download(&record).unwrap();
        (store, record)
    }

    #[test]
    fn downloads_are_found_again_by_their_url() {
        let directory = tempfile::tempdir().unwrap();
        let (store, record) = stored(directory.path());
        assert_eq!(store.download(&url("https://h.io/f?sig=hunter3")), Some(record.clone()));
        assert_eq!(store.download(&url("https://h.io/f")), None);
        let kept = fs::read_to_string(store.place("downloads", &record.url)).unwrap();
        assert!(!kept.contains("hunter") && !kept.contains("h.io"), "{kept}");
    }

    #[test]
    fn damage_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let (store, record) = stored(directory.path());
        let url = url("https://h.io/f?sig=hunter3");
        let path = store.place("downloads", &url.key());
        let good = fs::read(&path).unwrap();
        let elsewhere = DownloadRecord { url: Digest::of(b""), ..record.clone() };
        for damaged in [&good[..9], b"", &serde_json::to_vec(&elsewhere).unwrap()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.download(&url), None);
        }
        fs::write(&path, &good).unwrap();
        assert!(store.verified_blob(&record.digest, 7).is_some());
        fs::write(store.blob_path(&record.digest), b"c0ntent").unwrap();
        assert!(store.download(&url).is_some(), "the size is right");
        assert_eq!(store.verified_blob(&record.digest, 7), None);
        assert_eq!(store.download(&url), None, "what is damaged is gone");
    }
}
