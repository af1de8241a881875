//! Where build inputs are: the build context and `--build-context`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_platforms::Platform;

use super::errors::Failure;
use crate::coordinator::ContextAt;
use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::{GitAddress, without_userinfo};
use crate::image::Reference;
use crate::plan::{ContextKind, ImageName, NamedContext};

/// A named context, with its files where it has any.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) context: NamedContext,
    pub(super) files: Option<ContextAt>,
}

/// Understands all `--build-context`: `NAME[::PLATFORM]=PLACE`.
pub(super) fn named(texts: &[String]) -> Result<Vec<Named>, Failure> {
    texts.iter().map(|text| one_named(text)).collect()
}

fn one_named(text: &str) -> Result<Named, Failure> {
    let fault = |why: String| Failure::usage(format!("--build-context {}: {why}", without_userinfo(text)));
    let (name, place) = text
        .split_once('=')
        .filter(|(name, place)| !name.is_empty() && !place.is_empty())
        .ok_or_else(|| fault("write --build-context NAME=PLACE".to_owned()))?;
    let (name, platform) = match name.split_once("::") {
        None => (name, None),
        Some((name, platform)) => {
            let platform: Platform =
                platform.parse().map_err(|error| fault(format!("the platform {platform}: {error}")))?;
            (name, Some(platform))
        }
    };
    let is_git = GitAddress::parse_context(place).map_err(|error| fault(error.to_string()))?.is_some();
    let (holds, files) = if let Some(image) = place.strip_prefix("docker-image://") {
        match image {
            "scratch" => (ContextKind::Scratch, None),
            image => {
                let reference: Reference =
                    image.parse().map_err(|error| fault(format!("the image {image}: {error}")))?;
                (ContextKind::Image(ImageName::Registry(reference)), None)
            }
        }
    } else if let Some(layout) = place.strip_prefix("oci-layout://") {
        (ContextKind::Image(ImageName::Layout(layout.to_owned())), None)
    } else if is_git {
        (ContextKind::Files, Some(ContextAt::Git(place.to_owned())))
    } else if is_web(place) {
        (ContextKind::Files, Some(ContextAt::Web(place.to_owned())))
    } else if let Some((scheme, _)) = place.split_once("://") {
        return Err(fault(format!("nothing is known of {scheme}://")).with_hint(
            "name a folder, docker-image://IMAGE, oci-layout://FOLDER, an http(s) address or a git repository",
        ));
    } else {
        let path = folder(place).map_err(fault)?;
        let ignore = ignore(&path, None)?;
        (ContextKind::Files, Some(ContextAt::Folder { path, ignore }))
    };
    Ok(Named { context: NamedContext { name: name.to_owned(), platform, holds }, files })
}

fn folder(place: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(place);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(format!("`{place}` is not a folder")),
        Err(error) => Err(format!("the folder `{place}` cannot be read: {error}")),
    }
}

/// What `.dockerignore` says: the one beside the Dockerfile goes before that of the context.
pub(super) fn ignore(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore, Failure> {
    let beside = dockerfile.map(|path| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".dockerignore");
        let shown = name.to_string_lossy().into_owned();
        (path.with_file_name(name), shown)
    });
    let own = (context.join(".dockerignore"), ".dockerignore".to_owned());
    for (path, shown) in beside.into_iter().chain([own]) {
        match fs::read(&path) {
            Ok(bytes) => {
                return Ignore::parse(&bytes).map(|ignore| ignore.named(shown)).map_err(|error| {
                    Failure::usage(format!("{}:{}: {error}", path.display(), error.line()))
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::usage(format!("failed to read `{}`: {error}", path.display())));
            }
        }
    }
    Ok(Ignore::none())
}

/// Whether a place is on a web server.
pub(super) fn is_web(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}
