//! Manifests: fetching, checking for, pushing.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;

use crate::image::media_type::{ACCEPT_MANIFESTS, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::{Descriptor, Digest, Document, RawManifest, Reference};

use super::client::Target;
use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Answer, Call, scope};
use super::redact::escape;
use super::retry::{Advice, Retries};
use super::session::Session;
use super::upload;

/// Longest manifest, in bytes.
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;
/// How registries say that something below a manifest is missing.
const MISSING: &[&str] =
    &["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "MANIFEST_UNKNOWN"];

/// What a manifest that is fetched must be.
#[derive(Debug, Clone, Copy)]
struct Expected {
    digest: Option<Digest>,
    size: Option<u64>,
}

/// Fetches the manifest that `reference` names.
pub(super) async fn resolve(session: &Session, reference: &Reference) -> Result<RawManifest, RegistryError> {
    let expected = Expected { digest: reference.digest().copied(), size: None };
    fetch(session, &name(reference), expected).await
}

/// Fetches the manifest that `descriptor` points to.
pub(super) async fn child(session: &Session, descriptor: &Descriptor) -> Result<RawManifest, RegistryError> {
    let expected = Expected { digest: Some(descriptor.digest), size: Some(descriptor.size) };
    fetch(session, &descriptor.digest.to_string(), expected).await
}

/// The digest that `reference` names now.
pub(super) async fn resolve_digest(
    session: &Session,
    reference: &Reference,
) -> Result<Digest, RegistryError> {
    if let Some(digest) = reference.digest() {
        return Ok(*digest);
    }
    let name = name(reference);
    let mut retries = Retries::new(session, Operation::Pull(format!("manifest `{name}`")));
    loop {
        let failure = match head(session, &name, "pull").await {
            Ok(answer) if answer.status() == 200 => match content_digest(&answer) {
                Some(digest) => return Ok(digest),
                None => break,
            },
            Ok(mut answer) => answer.refusal().await,
            Err(failure) => failure,
        };
        // Some registries know no HEAD, or give no explanation for it: GET tells more.
        match failure.status() {
            Some(400 | 404 | 405) => break,
            _ => retries.after(failure).await?,
        }
    }
    fetch(session, &name, Expected { digest: None, size: None }).await.map(|manifest| manifest.digest())
}

/// Whether the repository holds a manifest.
pub(super) async fn exists(session: &Session, digest: &Digest) -> Result<bool, RegistryError> {
    let name = digest.to_string();
    let mut retries = Retries::new(session, Operation::Pull(format!("manifest `{name}`")));
    let mut method = Method::HEAD;
    loop {
        let call = manifest_call(session, method.clone(), &name, "pull").header(ACCEPT, ACCEPT_MANIFESTS);
        let failure = match session.send(call).await {
            Ok(answer) if answer.status() == 200 => return Ok(true),
            Ok(mut answer) => answer.refusal().await,
            Err(failure) => failure,
        };
        match failure.status() {
            Some(404) => return Ok(false),
            Some(400 | 405) if method == Method::HEAD => method = Method::GET,
            _ => retries.after(failure).await?,
        }
    }
}

/// Pushes the exact bytes of a manifest.
pub(super) async fn push(
    session: &Session,
    manifest: &RawManifest,
    target: Target<'_>,
) -> Result<(), RegistryError> {
    let digest = manifest.digest();
    let name = match target {
        Target::Digest => digest.to_string(),
        Target::Tag(tag) => tag.to_owned(),
    };
    let operation = Operation::Push(format!("manifest `{}`", escape(&name)));
    let mut retries = Retries::new(session, operation.clone());
    if let Target::Tag(tag) = target
        && !is_tag(tag)
    {
        let text = "the tag may hold only letters, digits, `_`, `.` and `-`, 128 at most";
        return Err(retries.give_up(Failure::lasting(Cause::Configuration(text.to_owned()))));
    }
    let mut restored = false;
    loop {
        let mut failure = match put(session, manifest, digest, &name).await {
            Ok(()) => break,
            Err(failure) => failure,
        };
        if matches!(failure.status(), Some(400 | 404)) && failure.has_code(MISSING) && !restored {
            restored = true;
            restore(session, manifest, &operation).await?;
            failure.advice = Advice::Backoff;
        }
        retries.after(failure).await?;
    }
    if let Target::Tag(tag) = target
        && let Ok(answer) = head(session, tag, "pull,push").await
        && let Some(found) =
            content_digest(&answer).filter(|found| answer.status() == 200 && *found != digest)
    {
        let text = format!("another writer moved the tag meanwhile: it names {found} now, not {digest}");
        return Err(retries.give_up(Failure::protocol(text)));
    }
    Ok(())
}

fn name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn manifest_call<'a>(session: &Session, method: Method, name: &str, actions: &str) -> Call<'a> {
    Call::new(method, format!("manifests/{name}")).scope(scope(session.repository().path(), actions))
}

async fn head(session: &Session, name: &str, actions: &str) -> Result<Answer, Failure> {
    session.send(manifest_call(session, Method::HEAD, name, actions).header(ACCEPT, ACCEPT_MANIFESTS)).await
}

fn content_digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest").and_then(|text| text.parse().ok())
}

async fn fetch(session: &Session, name: &str, expected: Expected) -> Result<RawManifest, RegistryError> {
    let mut retries = Retries::new(session, Operation::Pull(format!("manifest `{name}`")));
    let mut wrong = false;
    loop {
        let call = manifest_call(session, Method::GET, name, "pull").header(ACCEPT, ACCEPT_MANIFESTS);
        match fetch_once(session, call, expected, &mut wrong).await {
            Ok(manifest) => return Ok(manifest),
            Err(failure) => retries.after(failure).await?,
        }
    }
}

async fn fetch_once(
    session: &Session,
    call: Call<'_>,
    expected: Expected,
    wrong: &mut bool,
) -> Result<RawManifest, Failure> {
    let mut answer = session.send(call).await?.expect(&[200]).await?;
    let bytes = answer.body(LONGEST_MANIFEST).await?;
    let bytes = bytes.ok_or_else(|| Failure::protocol("the manifest is longer than 4 MiB"))?;
    let media_type = media_type(answer.header("content-type").unwrap_or_default(), &bytes)?;
    let digest = Digest::of(&bytes);
    // For a tag the registry's own word is all there is to compare with.
    let wanted = expected.digest.or_else(|| content_digest(&answer)).unwrap_or(digest);
    let right_size = expected.size.is_none_or(|size| size == bytes.len() as u64);
    if wanted == digest && right_size {
        return Ok(RawManifest { media_type, bytes });
    }
    let cause = Cause::Protocol(format!(
        "the content is not what its digest promises: {} bytes with {digest}, expected {wanted}",
        bytes.len()
    ));
    // A proxy may have spoilt it: worth one more look, not more.
    let again = !std::mem::replace(wrong, true);
    Err(if again { Failure::passing(cause) } else { Failure::lasting(cause) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// The media type under which a manifest was served, or what it says itself where the server was vague.
fn media_type(served: &str, bytes: &[u8]) -> Result<String, Failure> {
    let served = served.split(';').next().unwrap_or_default().trim();
    if [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&served) {
        return Ok(served.to_owned());
    }
    let vague = ["", "application/json", "text/plain", "application/octet-stream"].contains(&served);
    let no_manifest = || {
        Failure::protocol(format!("the registry answered with `{}`, which is no manifest", escape(served)))
    };
    if !vague {
        return if served.starts_with("application/") { Ok(served.to_owned()) } else { Err(no_manifest()) };
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|_| no_manifest())?;
    match (shape.media_type, shape.manifests.is_some(), shape.layers.is_some()) {
        (Some(media_type), _, _) => Ok(media_type),
        (None, true, _) => Ok(OCI_INDEX.to_owned()),
        (None, false, true) => Ok(OCI_MANIFEST.to_owned()),
        (None, false, false) => Err(no_manifest()),
    }
}

async fn put(session: &Session, manifest: &RawManifest, digest: Digest, name: &str) -> Result<(), Failure> {
    let call = manifest_call(session, Method::PUT, name, "pull,push");
    let call = call.header(CONTENT_TYPE, &manifest.media_type).bytes(&manifest.bytes);
    let answer = session.send(call).await?.expect(&[200, 201, 202]).await?;
    match content_digest(&answer) {
        Some(found) if found != digest => {
            Err(Failure::protocol(format!("the registry stored {found} where {digest} was sent")))
        }
        _ => Ok(()),
    }
}

/// Makes sure that everything below a manifest is there: uploads what the registry lost.
async fn restore(
    session: &Session,
    manifest: &RawManifest,
    operation: &Operation,
) -> Result<(), RegistryError> {
    let lost = |digest: Digest| {
        let text = format!("the registry does not hold {digest}, which the manifest names");
        session.error(operation.clone(), Failure::protocol(text), Vec::new())
    };
    match manifest.parse() {
        Ok(Document::Image(image)) => {
            for descriptor in std::iter::once(&image.config).chain(&image.layers) {
                if upload::is_there(session, descriptor).await? {
                    continue;
                }
                let source = session.shared.flights.forget(session.repository(), descriptor.digest).await;
                let (descriptor, path) = source.ok_or_else(|| lost(descriptor.digest))?;
                upload::push(session, &descriptor, &path, &[], &|_| {}).await?;
            }
            Ok(())
        }
        Ok(Document::Index(index)) => {
            for descriptor in &index.manifests {
                if !exists(session, &descriptor.digest).await? {
                    return Err(lost(descriptor.digest));
                }
            }
            Ok(())
        }
        // Not ours to understand: the registry's own complaint is what counts.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for (served, bytes, want) in [
            (OCI_INDEX, "", Some(OCI_INDEX)),
            ("application/vnd.oci.image.index.v1+json; charset=utf-8", "", Some(OCI_INDEX)),
            ("application/json", r#"{"manifests":[]}"#, Some(OCI_INDEX)),
            ("text/plain", r#"{"layers":[]}"#, Some(OCI_MANIFEST)),
            ("", &format!(r#"{{"mediaType":"{DOCKER_LIST}"}}"#), Some(DOCKER_LIST)),
            ("text/html", r#"{"layers":[]}"#, None),
            ("application/json", "<html>", None),
        ] {
            assert_eq!(media_type(served, bytes.as_bytes()).ok().as_deref(), want, "{served} {bytes}");
        }
    }
}
