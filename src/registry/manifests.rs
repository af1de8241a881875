//! Manifests: fetching, checking for, pushing.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::image::media_type::{ACCEPT_MANIFESTS, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::{Descriptor, Digest, Document, RawManifest, Reference};

use super::client::Target;
use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Answer, Call, scope};
use super::flight::Source;
use super::redact::escape;
use super::retry::{Advice, Retries};
use super::session::{Server as _, Session};
use super::upload;

/// Longest manifest, in bytes.
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;
/// Failures of a request that can be done without, before it is done without.
const LOOKS: u32 = 2;
/// How registries say that something below a manifest is missing.
const MISSING: &[&str] =
    &["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "MANIFEST_UNKNOWN"];

/// How docker-registry says that it read one of its own files while another writer was replacing it: for a
/// moment the file is empty, and names no digest. What was sent is not looked at for that.
const TORN: &[&str] = &["DIGEST_INVALID"];

/// What a manifest that is fetched must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// Its digest, where it is known.
    pub(super) digest: Option<Digest>,
    /// Its size, where it is known.
    pub(super) size: Option<u64>,
    /// Most bytes that are accepted.
    pub(super) limit: u64,
}

/// Fetches the manifest that `reference` names.
pub(super) async fn resolve(session: &Session, reference: &Reference) -> Result<RawManifest, RegistryError> {
    let expected = Expected { digest: reference.digest().copied(), size: None, limit: LONGEST_MANIFEST };
    fetch(session, &name(reference), expected).await
}

/// Fetches the manifest that `descriptor` points to.
pub(super) async fn child(session: &Session, descriptor: &Descriptor) -> Result<RawManifest, RegistryError> {
    let expected =
        Expected { digest: Some(descriptor.digest), size: Some(descriptor.size), limit: LONGEST_MANIFEST };
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
        let failure = match head(&retries, session, &name, "pull").await {
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
    let expected = Expected { digest: None, size: None, limit: LONGEST_MANIFEST };
    fetch(session, &name, expected).await.map(|manifest| manifest.digest())
}

/// Whether the repository, which is about to be pushed to, holds a manifest.
pub(super) async fn exists(session: &Session, digest: Digest) -> Result<bool, RegistryError> {
    match session.shared.known.manifest(session.repository(), digest) {
        Some(true) => Ok(true),
        _ => ask(session, digest).await,
    }
}

/// Asks the registry whether it holds a manifest, whatever is known.
async fn ask(session: &Session, digest: Digest) -> Result<bool, RegistryError> {
    let operation = push_operation(&digest.to_string());
    let there = look(session, &operation, &digest.to_string()).await;
    let there = matches!(
        there.map_err(|failure| session.error(operation, failure))?,
        Found::Something(found) if found.is_none_or(|found| found == digest)
    );
    session.shared.known.note(session.repository(), digest, there);
    Ok(there)
}

/// Whether a tag of the repository, which is about to be pushed to, names `digest`.
pub(super) async fn is_tagged(session: &Session, tag: &str, digest: Digest) -> Result<bool, RegistryError> {
    let found = tagged(session, tag).await?;
    session.shared.known.note_tag(session.repository(), tag, found);
    if found == Some(digest) {
        session.shared.known.note(session.repository(), digest, true);
    }
    Ok(found == Some(digest))
}

/// What a tag names, as far as the registry tells.
async fn tagged(session: &Session, tag: &str) -> Result<Option<Digest>, RegistryError> {
    let operation = push_operation(tag);
    check_tag(tag).map_err(|failure| session.error(operation.clone(), failure))?;
    match look(session, &operation, tag).await {
        Ok(Found::Something(found)) => Ok(found),
        Ok(Found::Nothing | Found::Unknown) => Ok(None),
        Err(failure) => Err(session.error(operation, failure)),
    }
}

/// Pushes the exact bytes of a manifest, unless they are there under that name.
pub(super) async fn push(
    session: &Session,
    manifest: &RawManifest,
    target: Target<'_>,
) -> Result<(), RegistryError> {
    let (digest, known) = (manifest.digest(), &session.shared.known);
    let name = match target {
        Target::Digest => digest.to_string(),
        Target::Tag(tag) => tag.to_owned(),
    };
    let done = match target {
        Target::Digest => match known.manifest(session.repository(), digest) {
            Some(there) => there,
            None => ask(session, digest).await?,
        },
        Target::Tag(tag) => match known.take_tag(session.repository(), tag) {
            Some(found) => found == Some(digest),
            None => tagged(session, tag).await? == Some(digest),
        },
    };
    if done {
        return Ok(());
    }
    let operation = push_operation(&name);
    store(session, manifest, &name, &operation).await?;
    // The registry has said that it is stored. Only another look can tell that it did not stay so.
    if let Target::Tag(tag) = target
        && let Ok(Found::Something(Some(found))) = look(session, &operation, tag).await
        && found != digest
    {
        let text = format!("another writer moved the tag meanwhile: it names {found} now, not {digest}");
        return Err(session.error(operation, Failure::protocol(text)));
    }
    Ok(())
}

/// Puts the exact bytes of a manifest under a tag, whatever is there.
pub(super) async fn put_tag(
    session: &Session,
    manifest: &RawManifest,
    tag: &str,
) -> Result<(), RegistryError> {
    let operation = push_operation(tag);
    check_tag(tag).map_err(|failure| session.error(operation.clone(), failure))?;
    store(session, manifest, tag, &operation).await?;
    // What was seen before is out of date.
    session.shared.known.take_tag(session.repository(), tag);
    Ok(())
}

fn push_operation(name: &str) -> Operation {
    Operation::Push(format!("manifest `{}`", escape(name)))
}

/// Sends a manifest until the registry says that it is stored.
async fn store(
    session: &Session,
    manifest: &RawManifest,
    name: &str,
    operation: &Operation,
) -> Result<(), RegistryError> {
    let digest = manifest.digest();
    let mut retries = Retries::new(session, operation.clone());
    let mut restored = false;
    loop {
        let mut failure = match put(&retries, session, manifest, digest, name).await {
            Ok(()) => break,
            Err(failure) => failure,
        };
        if matches!(failure.status(), Some(400 | 404)) && failure.has_code(MISSING) && !restored {
            restored = true;
            restore(session, manifest, operation).await?;
            failure.advice = Advice::Backoff;
        }
        if failure.status() == Some(400) && failure.has_code(TORN) {
            failure.advice = Advice::Backoff;
        }
        // An earlier try may have succeeded without an answer: tags that cannot be moved refuse another.
        if failure.advice == Advice::Never
            && retries.failed() > 0
            && let Ok(Found::Something(Some(found))) = look(session, operation, name).await
            && found == digest
        {
            break;
        }
        retries.after(failure).await?;
    }
    session.shared.known.note(session.repository(), digest, true);
    Ok(())
}

/// What a name stands for.
enum Found {
    /// This manifest, or one whose digest the registry does not tell.
    Something(Option<Digest>),
    Nothing,
    /// The registry does not tell.
    Unknown,
}

/// Asks what a name stands for. It is never needed, only cheaper to know: a registry that fails here is
/// not asked for long.
async fn look(session: &Session, operation: &Operation, name: &str) -> Result<Found, Failure> {
    let mut tries = Retries::new(session, operation.clone());
    loop {
        let failure = match head(&tries, session, name, "pull,push").await {
            Ok(mut answer) => match answer.status() {
                200 => return Ok(Found::Something(content_digest(&answer))),
                404 => return Ok(Found::Nothing),
                401 | 403 | 408 | 429 => answer.refusal().await,
                500..600 if tries.failed() + 1 < LOOKS => answer.refusal().await,
                _ => return Ok(Found::Unknown),
            },
            Err(failure) => failure,
        };
        match failure.status() {
            Some(501 | 505..600) => return Ok(Found::Unknown),
            _ => tries.wait(failure).await?,
        }
    }
}

fn name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// Refuses what no registry takes as a tag.
pub(super) fn check_tag(text: &str) -> Result<(), Failure> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    let why = "the tag may hold only letters, digits, `_`, `.` and `-`, 128 at most";
    if good { Ok(()) } else { Err(Failure::lasting(Cause::Configuration(why.to_owned()))) }
}

/// A request for, or of, a manifest.
pub(super) fn call<'a>(session: &Session, method: Method, name: &str, actions: &str) -> Call<'a> {
    Call::new(method, format!("manifests/{name}")).scope(scope(session.repository().path(), actions))
}

async fn head(tries: &Retries<'_>, session: &Session, name: &str, actions: &str) -> Result<Answer, Failure> {
    tries.send(call(session, Method::HEAD, name, actions).header(ACCEPT, ACCEPT_MANIFESTS)).await
}

fn content_digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest").and_then(|text| text.parse().ok())
}

async fn fetch(session: &Session, name: &str, expected: Expected) -> Result<RawManifest, RegistryError> {
    let mut retries = Retries::new(session, Operation::Pull(format!("manifest `{name}`")));
    let mut wrong = false;
    loop {
        let call = call(session, Method::GET, name, "pull").header(ACCEPT, ACCEPT_MANIFESTS);
        match fetch_once(&retries, call, expected, &mut wrong).await {
            Ok(manifest) => return Ok(manifest),
            Err(failure) => retries.after(failure).await?,
        }
    }
}

/// Fetches a manifest once. Wrong content is worth another try the first time only.
pub(super) async fn fetch_once(
    tries: &Retries<'_>,
    call: Call<'_>,
    expected: Expected,
    wrong: &mut bool,
) -> Result<RawManifest, Failure> {
    let mut answer = tries.send(call).await?.expect(&[200]).await?;
    let bytes = answer.body(expected.limit).await?;
    let too_long = || Failure::protocol(format!("the manifest is longer than {} bytes", expected.limit));
    let bytes = bytes.ok_or_else(too_long)?;
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
    RawManifest::said_type(bytes).ok_or_else(no_manifest)
}

async fn put(
    tries: &Retries<'_>,
    session: &Session,
    manifest: &RawManifest,
    digest: Digest,
    name: &str,
) -> Result<(), Failure> {
    let call = call(session, Method::PUT, name, "pull,push");
    let call = call.header(CONTENT_TYPE, &manifest.media_type).bytes(&manifest.bytes);
    let answer = tries.send(call).await?.expect(&[200, 201, 202]).await?;
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
        session.error(operation.clone(), Failure::protocol(text))
    };
    match manifest.parse() {
        Ok(Document::Image(image)) => {
            for descriptor in std::iter::once(&image.config).chain(&image.layers) {
                let there = upload::is_there(session, operation, descriptor).await;
                if there.map_err(|failure| session.error(operation.clone(), failure))? {
                    continue;
                }
                let source = session.shared.flights.forget(session.repository(), descriptor.digest).await;
                let (descriptor, source) = source.ok_or_else(|| lost(descriptor.digest))?;
                match source {
                    Source::File(path) => upload::push(session, &descriptor, &path, &[], &|_| {}).await?,
                    Source::Repository(from) => {
                        let from = session.shared.session(&from);
                        upload::copy(&from, session, &descriptor, &|_| {}).await?
                    }
                };
            }
            Ok(())
        }
        Ok(Document::Index(index)) => {
            for descriptor in &index.manifests {
                if !ask(session, descriptor.digest).await? {
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
