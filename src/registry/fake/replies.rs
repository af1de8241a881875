//! How the fake registry answers when no rule says otherwise.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::image::Digest;

use super::{Access, Seen, State};

#[derive(Default)]
pub(super) struct Store {
    /// By repository and digest.
    pub(super) blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and digest or tag.
    pub(super) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub(super) uploads: HashMap<String, Vec<u8>>,
    /// Files outside the registry, by path.
    pub(super) files: HashMap<String, File>,
    sessions: usize,
    tokens: usize,
}

/// A file as a web server has it.
#[derive(Clone, Default)]
pub(in crate::registry) struct File {
    pub(in crate::registry) bytes: Vec<u8>,
    pub(in crate::registry) etag: Option<&'static str>,
    pub(in crate::registry) last_modified: Option<&'static str>,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#))
    }
}

impl State {
    pub(super) fn reply(&self, request: &Seen) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/token" {
            return self.token(request, query);
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return self.refuse(request, "", false).unwrap_or_else(|| self.file(request, path));
        };
        let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
        let (repository, rest) = ["/blobs/", "/manifests/"]
            .iter()
            .find_map(|part| rest.split_once(part).map(|(before, after)| (before, format!("{part}{after}"))))
            .unwrap_or(("", String::new()));
        if let Some(refusal) = self.refuse(request, repository, writes) {
            return refusal;
        }
        if rest.is_empty() {
            return Reply::new(200, &[], "{}");
        }
        if let Some(name) = rest.strip_prefix("/manifests/") {
            return self.manifests(request, repository, name);
        }
        if let Some(session) = rest.strip_prefix("/blobs/uploads/") {
            return self.uploads(request, repository, session, query);
        }
        self.blobs(request, repository, rest.trim_start_matches("/blobs/"))
    }

    /// Tokens tell their scopes: this registry has nothing to hide.
    fn token(&self, request: &Seen, query: &str) -> Reply {
        let form = if request.method == "POST" {
            String::from_utf8_lossy(&request.body).into_owned()
        } else {
            query.to_owned()
        };
        let url: reqwest::Url = format!("http://x/?{form}").parse().unwrap();
        let scopes: Vec<String> = url
            .query_pairs()
            .filter(|(key, _)| key == "scope")
            .map(|(_, value)| value.into_owned())
            .collect();
        let known = match request.header("authorization") {
            None if request.method == "POST" => form.contains("refresh_token=identity"),
            None => scopes.iter().all(|scope| !scope.ends_with("push")),
            Some(value) => value == basic(),
        };
        if !known {
            return Reply::new(401, &[], r#"{"details":"incorrect username or password"}"#);
        }
        let mut store = self.store.lock().unwrap();
        store.tokens += 1;
        let token = STANDARD.encode(format!("{}|{}", store.tokens, scopes.join(" ")));
        Reply::new(200, &[], format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    fn refuse(&self, request: &Seen, repository: &str, writes: bool) -> Option<Reply> {
        let given = request.header("authorization").unwrap_or_default();
        let (allowed, challenge) = match self.access {
            Access::Open => (true, String::new()),
            Access::Basic => (given == basic(), "Basic realm=\"fake, really\"".to_owned()),
            Access::Bearer => {
                let token = given.strip_prefix("Bearer ").and_then(|token| STANDARD.decode(token).ok());
                let token = token.and_then(|token| String::from_utf8(token).ok());
                let actions = if writes { "pull,push" } else { "pull" };
                let wanted = format!("repository:{repository}:{actions}");
                let allowed = token.is_some_and(|token| repository.is_empty() || token.contains(&wanted));
                (
                    allowed,
                    format!(
                        "Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"{wanted}\"",
                        self.address
                    ),
                )
            }
        };
        (!allowed).then(|| Reply {
            headers: vec![("WWW-Authenticate".into(), challenge)],
            ..Reply::error(401, "UNAUTHORIZED")
        })
    }

    fn manifests(&self, request: &Seen, repository: &str, name: &str) -> Reply {
        let mut store = self.store.lock().unwrap();
        if request.method == "PUT" {
            let digest = Digest::of(&request.body).to_string();
            let media_type = request.header("content-type").unwrap_or_default().to_owned();
            for name in [name, &digest] {
                store
                    .manifests
                    .insert((repository.into(), name.into()), (media_type.clone(), request.body.clone()));
            }
            return Reply::new(201, &[("Docker-Content-Digest", &digest)], "");
        }
        match store.manifests.get(&(repository.into(), name.into())) {
            Some((media_type, bytes)) => {
                let digest = Digest::of(bytes).to_string();
                Reply::new(
                    200,
                    &[("Content-Type", media_type), ("Docker-Content-Digest", &digest)],
                    bytes.clone(),
                )
            }
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn blobs(&self, request: &Seen, repository: &str, digest: &str) -> Reply {
        let store = self.store.lock().unwrap();
        let Some(bytes) = store.blobs.get(&(repository.into(), digest.into())) else {
            return Reply::error(404, "BLOB_UNKNOWN");
        };
        let range = request.header("range").and_then(|text| text.strip_prefix("bytes="));
        match range.and_then(|text| text.trim_end_matches('-').parse::<usize>().ok()) {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &[("Content-Range", &range)], &bytes[start..])
            }
            None => Reply::new(200, &[("ETag", "\"e\"")], bytes.clone()),
        }
    }

    fn file(&self, request: &Seen, path: &str) -> Reply {
        let Some(file) = self.store.lock().unwrap().files.get(path).cloned() else {
            return Reply::new(404, &[("Content-Type", "text/html")], "<html>gone</html>");
        };
        let mut headers = vec![("Date", "Tue, 06 Jan 2026 00:00:00 GMT")];
        headers.extend(file.etag.map(|etag| ("ETag", etag)));
        headers.extend(file.last_modified.map(|date| ("Last-Modified", date)));
        let same = |name: &str, value: Option<&str>| value.is_some() && request.header(name) == value;
        let asked_by_tag = request.header("if-none-match").is_some();
        if same("if-none-match", file.etag)
            || (!asked_by_tag && same("if-modified-since", file.last_modified))
        {
            return Reply::new(304, &headers, "");
        }
        let start = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let start = start.and_then(|start| start.strip_suffix('-')?.parse::<usize>().ok());
        match start {
            Some(start) if same("if-range", file.etag) || same("if-range", file.last_modified) => {
                let range = format!("bytes {start}-{}/{}", file.bytes.len() - 1, file.bytes.len());
                headers.push(("Content-Range", &range));
                Reply::new(206, &headers, &file.bytes[start..])
            }
            _ => Reply::new(200, &headers, file.bytes),
        }
    }

    fn uploads(&self, request: &Seen, repository: &str, session: &str, query: &str) -> Reply {
        let mut store = self.store.lock().unwrap();
        let url: reqwest::Url = format!("http://x/?{query}").parse().unwrap();
        let get =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let range = |bytes: &Vec<u8>| format!("0-{}", bytes.len().saturating_sub(1));
        let place = |session: &str| format!("/v2/{repository}/blobs/uploads/{session}?_state=a%2Bb");
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (get("mount"), get("from"))
                    && let Some(bytes) = store.blobs.get(&(from, digest.clone())).cloned()
                {
                    store.blobs.insert((repository.into(), digest), bytes);
                    return Reply::new(201, &[], "");
                }
                store.sessions += 1;
                let session = format!("s{}", store.sessions);
                store.uploads.insert(session.clone(), Vec::new());
                Reply::new(202, &[("Location", &place(&session))], "")
            }
            "DELETE" => {
                store.uploads.remove(session);
                Reply::new(204, &[], "")
            }
            method => {
                let Some(bytes) = store.uploads.get_mut(session) else {
                    return Reply::error(404, "BLOB_UPLOAD_UNKNOWN");
                };
                if get("_state").as_deref() != Some("a+b") {
                    return Reply::error(400, "STATE_LOST");
                }
                let start = request
                    .header("content-range")
                    .and_then(|text| text.split('-').next()?.parse::<usize>().ok());
                if start.is_some_and(|start| start != bytes.len()) {
                    return Reply::error(416, "RANGE");
                }
                bytes.extend_from_slice(&request.body);
                if method != "PUT" {
                    let status = if method == "GET" { 204 } else { 202 };
                    return Reply::new(
                        status,
                        &[("Location", &place(session)), ("Range", &range(bytes))],
                        "",
                    );
                }
                let digest = Digest::of(bytes).to_string();
                if get("digest").as_deref() != Some(digest.as_str()) {
                    return Reply::error(400, "DIGEST_INVALID");
                }
                let bytes = store.uploads.remove(session).unwrap_or_default();
                store.blobs.insert((repository.into(), digest.clone()), bytes);
                Reply::new(201, &[("Docker-Content-Digest", &digest)], "")
            }
        }
    }
}

/// The `Authorization` that both kinds of access know.
pub(in crate::registry) fn basic() -> String {
    format!("Basic {}", STANDARD.encode("user:pass:word"))
}
