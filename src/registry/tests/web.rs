use super::super::fake::{Access, Act, Fake, File, When, basic};
use super::super::{Authorization, Download, Downloaded, ErrorKind, RegistryError, WebFile, WebUrl};
use super::{Bench, content};
use crate::image::Digest;

const DATE: &str = "Mon, 05 Jan 2026 03:04:05 GMT";

/// A server with one file that has both an entity tag and a date.
async fn with_file(bytes: &[u8]) -> Bench {
    let bench = Bench::new(Access::Open).await;
    let file = File { bytes: bytes.to_vec(), etag: Some("\"e1\""), last_modified: Some(DATE) };
    bench.fake.add_file("/d/f.bin", file);
    bench
}

fn url(bench: &Bench, path: &str) -> WebUrl {
    format!("http://{}{path}", bench.fake.address).parse().unwrap()
}

fn wanted(url: &WebUrl) -> Download<'_> {
    Download { url, authorization: None, etag: None, last_modified: None, checksum: None }
}

/// What came of it, and what was left on disk.
async fn fetch(
    bench: &Bench,
    request: &Download<'_>,
) -> (Result<Downloaded, RegistryError>, Option<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let result = bench.client.download(request, &file, &|_| {}).await;
    (result, std::fs::read(&file).ok())
}

fn redirect(to: String) -> Act {
    Act::Answer(302, vec![("Location", to)], String::new())
}

#[tokio::test]
async fn files_are_asked_for_again_only_where_they_changed() {
    let bytes = content(300_000);
    let bench = with_file(&bytes).await;
    let url = url(&bench, "/d/f.bin?token=a");
    let first = fetch(&bench, &wanted(&url)).await;
    let file = WebFile {
        digest: Digest::of(&bytes),
        size: 300_000,
        etag: Some("\"e1\"".into()),
        last_modified: Some(DATE.into()),
        mtime: Some(1_767_582_245),
    };
    assert_eq!(first.0.unwrap(), Downloaded::Whole(file));
    assert!(first.1.unwrap() == bytes);
    let by_tag = Download { etag: Some("\"e1\""), ..wanted(&url) };
    let by_date = Download { last_modified: Some(DATE), ..wanted(&url) };
    for request in [by_tag, by_date] {
        let (result, left) = fetch(&bench, &request).await;
        assert_eq!((result.unwrap(), left), (Downloaded::NotModified, None));
    }
    let other = Download { etag: Some("\"e0\""), last_modified: Some(DATE), ..wanted(&url) };
    assert!(matches!(fetch(&bench, &other).await.0.unwrap(), Downloaded::Whole(_)));
    let seen = bench.fake.seen("GET", "/d/f.bin?token=a");
    assert_eq!(seen.len(), 4, "nothing is probed");
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn servers_that_ignore_conditions_are_understood() {
    let bench = with_file(b"abc").await;
    let whole = Act::Answer(200, vec![("ETag", "W/\"e1\"".into())], "abc".into());
    bench.fake.rule("GET", "/d/", When::Always, whole);
    let url = url(&bench, "/d/f.bin");
    let request = Download { etag: Some("\"e1\""), ..wanted(&url) };
    assert_eq!(fetch(&bench, &request).await.0.unwrap(), Downloaded::NotModified);
    let bench = with_file(b"abc").await;
    bench.fake.rule("GET", "/d/", When::Always, Act::Answer(304, Vec::new(), String::new()));
    let url = self::url(&bench, "/d/f.bin");
    assert!(fetch(&bench, &wanted(&url)).await.0.is_err(), "nothing is here that could be current");
}

#[tokio::test]
async fn broken_downloads_are_resumed_where_the_server_proves_what_it_continues() {
    let bytes = content(500_000);
    for (etag, last_modified, resumed) in [
        (Some("\"e\""), None, true),
        (Some("W/\"e\""), None, false),
        (Some("W/\"e\""), Some(DATE), true),
        (None, Some(DATE), true),
        (None, Some("Tue, 06 Jan 2026 00:00:00 GMT"), false),
        (None, None, false),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_file("/f", File { bytes: bytes.clone(), etag, last_modified });
        bench.fake.rule("GET", "/f", When::First(2), Act::Truncate(120_000));
        let url = url(&bench, "/f");
        let request = Download { checksum: Some(Digest::of(&bytes)), ..wanted(&url) };
        let (result, left) = fetch(&bench, &request).await;
        assert!(matches!(result.unwrap(), Downloaded::Whole(file) if file.size == 500_000));
        assert!(left.unwrap() == bytes);
        let ranges = bench.fake.seen("GET", "/f").iter().filter_map(|seen| seen.header("range")).count();
        assert_eq!((ranges, bench.retries()), (if resumed { 2 } else { 0 }, 2), "{etag:?} {last_modified:?}");
    }
}

#[tokio::test]
async fn files_that_change_meanwhile_are_fetched_anew() {
    let bytes = content(200_000);
    for answer in [
        Act::Answer(206, vec![("Content-Range", "bytes 5-9/10".into())], "12345".into()),
        Act::Answer(206, vec![("Content-Range", "bytes 1000-1004/1005".into())], "12345".into()),
        Act::Answer(416, Vec::new(), String::new()),
    ] {
        let bench = with_file(&bytes).await;
        bench.fake.rule("GET", "/d/", When::First(1), Act::Truncate(1000));
        bench.fake.rule("GET", "/d/", When::First(1), answer);
        let url = url(&bench, "/d/f.bin");
        assert!(fetch(&bench, &wanted(&url)).await.1.unwrap() == bytes);
    }
    // Another file of the same size and tag, told by its checksum alone.
    let bench = with_file(&bytes).await;
    let spoilt =
        Act::Answer(206, vec![("Content-Range", "bytes 1000-199999/200000".into())], "x".repeat(199_000));
    bench.fake.rule("GET", "/d/", When::First(1), Act::Truncate(1000));
    bench.fake.rule("GET", "/d/", When::First(1), spoilt);
    let url = url(&bench, "/d/f.bin");
    let request = Download { checksum: Some(Digest::of(&bytes)), ..wanted(&url) };
    assert!(fetch(&bench, &request).await.1.unwrap() == bytes);
}

#[tokio::test]
async fn wrong_checksums_name_both() {
    let bench = with_file(b"abc").await;
    let url = url(&bench, "/d/f.bin");
    let request = Download { checksum: Some(Digest::of(b"abd")), ..wanted(&url) };
    let (result, left) = fetch(&bench, &request).await;
    let error = result.unwrap_err();
    let want = format!(
        "failed to download `http://{}/d/f.bin`: digest mismatch {}: {}",
        bench.fake.address,
        Digest::of(b"abc"),
        Digest::of(b"abd")
    );
    assert_eq!((error.to_string(), error.kind(), left), (want, ErrorKind::Protocol, None));
    assert_eq!(bench.fake.count("", ""), 1, "the same bytes would come again");
}

#[tokio::test]
async fn refusals_are_told_without_secrets() {
    for (status, kind, hint) in [
        (401, ErrorKind::Authentication, Some("HTTP_AUTH_TOKEN_127.0.0.1 or HTTP_AUTH_HEADER_127.0.0.1")),
        (403, ErrorKind::Authentication, Some("HTTP_AUTH_TOKEN_127.0.0.1")),
        (404, ErrorKind::NotFound, Some("check the URL")),
        (410, ErrorKind::Refused, None),
        (204, ErrorKind::Refused, None),
    ] {
        let bench = with_file(b"abc").await;
        let body = "no sig4711 for hunter2 with tok4711".to_owned();
        bench.fake.rule("", "", When::Always, Act::Answer(status, Vec::new(), body));
        let text = format!("http://u:hunter2@{}/d/f.bin?sig=sig4711", bench.fake.address);
        let url: WebUrl = text.parse().unwrap();
        let token = Authorization::from_token(b"tok4711").unwrap();
        let request = Download { authorization: Some(&token), ..wanted(&url) };
        let (result, left) = fetch(&bench, &request).await;
        let error = result.unwrap_err();
        let shown = format!("{error} {request:?}");
        assert!(!shown.contains("4711") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.starts_with(&format!(
            "failed to download `http://{}/d/f.bin`: HTTP {status}",
            bench.fake.address
        )));
        assert_eq!((error.kind(), error.status(), left), (kind, Some(status), None));
        let told = error.hint();
        assert_eq!(told.is_some(), hint.is_some(), "{told:?}");
        assert!(hint.is_none_or(|hint| told.unwrap().contains(hint)));
        assert_eq!(bench.retries(), 0);
    }
}

#[tokio::test]
async fn passing_faults_are_retried() {
    for act in [
        Act::Answer(503, Vec::new(), String::new()),
        Act::Answer(429, vec![("Retry-After", "0.01".into())], String::new()),
        Act::Reset,
        Act::Garbage,
        Act::Hang,
    ] {
        let bench = with_file(b"abc").await;
        bench.fake.rule("GET", "/d/", When::First(2), act);
        let url = url(&bench, "/d/f.bin");
        assert_eq!(fetch(&bench, &wanted(&url)).await.1.unwrap(), b"abc");
        assert_eq!(bench.retries(), 2);
    }
    let bench = with_file(b"abc").await;
    bench.fake.rule("", "", When::Always, Act::Answer(503, Vec::new(), String::new()));
    let url = url(&bench, "/d/f.bin");
    let error = fetch(&bench, &wanted(&url)).await.0.unwrap_err();
    assert_eq!((error.kind(), error.tries()), (ErrorKind::Retryable, 5));
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let other = Fake::start(Access::Open).await;
    other.add_file("/f", File { bytes: b"abc".to_vec(), ..File::default() });
    let bench = Bench::new(Access::Basic).await;
    bench.fake.add_file("/private", File { bytes: b"abc".to_vec(), ..File::default() });
    let login: WebUrl = format!("http://user:pass%3Aword@{}/private", bench.fake.address).parse().unwrap();
    assert_eq!(fetch(&bench, &wanted(&login)).await.1.unwrap(), b"abc");
    let plain = url(&bench, "/private");
    let header = Authorization::from_header(basic().as_bytes()).unwrap();
    let request = Download { authorization: Some(&header), ..wanted(&plain) };
    assert_eq!(fetch(&bench, &request).await.1.unwrap(), b"abc");
    let error = fetch(&bench, &wanted(&plain)).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);

    let around = format!("http://{}/back", other.address);
    bench.fake.rule("GET", "/private", When::Always, redirect(around));
    other.rule("GET", "/back", When::Always, redirect(format!("http://{}/last", bench.fake.address)));
    bench.fake.rule("GET", "/last", When::Always, redirect(format!("http://{}/f", other.address)));
    assert_eq!(fetch(&bench, &request).await.1.unwrap(), b"abc");
    assert!(other.seen("", "").iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(bench.fake.seen("", "/last")[0].header("authorization"), None, "not even on the way back");
    other.rule("GET", "/gone", When::Always, Act::Answer(404, Vec::new(), "no such key s3cret".into()));
    bench.fake.rule(
        "GET",
        "/moved",
        When::Always,
        redirect(format!("http://{}/gone?sig=s3cret", other.address)),
    );
    let moved = url(&bench, "/moved");
    let error = fetch(&bench, &wanted(&moved)).await.0.unwrap_err().to_string();
    let end = format!("HTTP 404: no such key ***, at http://{}/gone after a redirect", other.address);
    assert!(error.ends_with(&end), "{error}");
}

#[tokio::test]
async fn redirects_end_somewhere() {
    let bench = with_file(b"abc").await;
    bench.fake.rule("GET", "/loop", When::Always, redirect("/loop".into()));
    bench.fake.rule("GET", "/file", When::Always, redirect("file:///etc/passwd".into()));
    bench.fake.rule("GET", "/login", When::Always, redirect("http://u:p@h.io/".into()));
    bench.fake.rule("GET", "/nine", When::First(9), redirect("/nine".into()));
    bench.fake.rule("GET", "/nine", When::Always, redirect("/d/f.bin".into()));
    for path in ["/loop", "/file", "/login"] {
        let url = url(&bench, path);
        let error = fetch(&bench, &wanted(&url)).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    assert_eq!(bench.fake.count("", "/loop"), 11);
    let url = url(&bench, "/nine");
    assert_eq!(fetch(&bench, &wanted(&url)).await.1.unwrap(), b"abc");
}

#[tokio::test]
async fn full_disks_are_told_as_such() {
    let bytes = content(5_000_000);
    let bench = with_file(&bytes).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let url = url(&bench, "/d/f.bin");
    let error = bench.client.download(&wanted(&url), &file, &|_| {}).await.unwrap_err();
    assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(error.hint().unwrap(), "free some disk space");
}
