//! The build context and the Dockerfile, wherever they are.
//!
//! All of it is done while the process has one thread: namespaces can be entered by no other. What
//! needs threads, a download, is done by a forked process.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::InputArgs;
use super::contexts::{self, is_web};
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::{build, options, process, values};
use crate::coordinator::{BuildError, ContextAt, Remotes, Repositories, explain};
use crate::dockerfile::{GitAddress, without_userinfo};
use crate::engine::Cancel;
use crate::layer::Limits;
use crate::progress::{Mode, Progress};
use crate::sandbox::{self, Ended, HeldSignals};
use crate::secrets::Secrets;
use crate::source::{Context, Input};
use crate::store::Store;

/// The largest Dockerfile that is looked for in an archive or repository, in bytes.
const LARGEST_DOCKERFILE: u64 = 64 << 20;
/// Where a Dockerfile is when nothing else is said.
const DOCKERFILE: &str = "Dockerfile";
/// Standard input.
const STDIN: &str = "-";
/// Build argument that keeps `.git` in a context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What a build begins with.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) context: ContextAt,
    /// The Dockerfile as it was found: not necessarily UTF-8.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Finds the build context and reads the Dockerfile.
pub(super) fn read(
    arguments: &InputArgs,
    environment: &Environment,
    root: &Path,
    secrets: &Secrets,
    mode: Mode,
) -> Result<Inputs, Failure> {
    let text = arguments.context.as_str();
    let file = arguments.file.as_deref();
    let file_on_stdin = file.is_some_and(|file| file.as_os_str() == STDIN);
    let shown = without_userinfo(text);
    if text == STDIN {
        if file_on_stdin {
            return Err(Failure::usage("standard input cannot be both the Dockerfile and the build context")
                .with_hint("name one of them"));
        }
        return of_input(read_input(io::stdin(), "standard input", root)?, "standard input", file);
    }
    let address = GitAddress::parse_context(text)
        .map_err(|error| Failure::usage(format!("the build context {shown}: {error}")))?;
    if let Some(address) = address {
        let context = repository(arguments, environment, root, secrets, &address)?;
        return of_context(context, &shown, file);
    }
    if is_web(text) {
        let path = download(arguments, environment, root, secrets, text, mode)?;
        let opened = File::open(&path).map_err(|error| unreadable(&shown, &error))?;
        return of_input(read_input(opened, &shown, root)?, &shown, file);
    }
    let metadata = fs::metadata(text).map_err(|error| unreadable(&shown, &error))?;
    if metadata.is_dir() {
        return of_folder(Path::new(text), file);
    }
    let opened = File::open(text).map_err(|error| unreadable(&shown, &error))?;
    match read_input(opened, &shown, root)? {
        Input::Archive(context) => of_context(context, &shown, file),
        Input::Dockerfile(_) => {
            Err(Failure::usage(format!("the build context `{shown}` is neither a folder nor a tar archive"))
                .with_hint(
                    "the last argument is the folder with the files to copy; the Dockerfile goes with -f",
                ))
        }
    }
}

fn unreadable(shown: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("the build context `{shown}` cannot be read: {error}"))
}

/// A folder of this machine; the Dockerfile may be anywhere.
fn of_folder(folder: &Path, file: Option<&Path>) -> Result<Inputs, Failure> {
    let (name, bytes, path) = match file {
        Some(file) if file.as_os_str() == STDIN => (STDIN.to_owned(), dockerfile_on_stdin()?, None),
        given => {
            let path = given.map_or_else(|| folder.join(DOCKERFILE), Path::to_owned);
            let bytes = fs::read(&path).map_err(|error| {
                let failure =
                    Failure::usage(format!("failed to read the Dockerfile `{}`: {error}", path.display()));
                if given.is_none() { failure.with_hint("name it with -f FILE") } else { failure }
            })?;
            let name = if given.is_none() { DOCKERFILE.to_owned() } else { path.display().to_string() };
            (name, bytes, Some(path))
        }
    };
    let ignore = contexts::ignore(folder, path.as_deref())?;
    Ok(Inputs { context: ContextAt::Folder { path: folder.to_owned(), ignore }, name, bytes })
}

fn dockerfile_on_stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| {
        Failure::usage(format!("the Dockerfile on standard input cannot be read: {error}"))
    })?;
    Ok(bytes)
}

/// An archive, or a Dockerfile alone.
fn of_input(input: Input, what: &str, file: Option<&Path>) -> Result<Inputs, Failure> {
    match input {
        Input::Archive(context) => of_context(context, what, file),
        Input::Dockerfile(_) if file.is_some() => {
            Err(Failure::usage(format!("{what} holds a Dockerfile, and -f names another one"))
                .with_hint("drop one of them"))
        }
        Input::Dockerfile(bytes) => {
            let context =
                Context::empty(format!("there is no build context: {what} holds a Dockerfile alone"));
            Ok(Inputs { context: ContextAt::Here(Arc::new(context)), name: DOCKERFILE.to_owned(), bytes })
        }
    }
}

/// Files that are here; the Dockerfile is among them, unless it is on standard input.
fn of_context(context: Context, what: &str, file: Option<&Path>) -> Result<Inputs, Failure> {
    let (name, bytes) = match file {
        Some(file) if file.as_os_str() == STDIN => (STDIN.to_owned(), dockerfile_on_stdin()?),
        given => {
            let name = given.unwrap_or(Path::new(DOCKERFILE)).display().to_string();
            let read = context.read_file(&name, LARGEST_DOCKERFILE);
            let bytes = read.map_err(|error| Failure::from(explain(error, what)))?;
            let missing = || {
                Failure::usage(format!("failed to read the Dockerfile: {what} has no file `{name}`"))
                    .with_hint("name it with -f FILE, as a path in the build context")
            };
            (name.clone(), bytes.ok_or_else(missing)?)
        }
    };
    Ok(Inputs { context: ContextAt::Here(Arc::new(context)), name, bytes })
}

fn read_input(reader: impl Read + Send + 'static, what: &str, root: &Path) -> Result<Input, Failure> {
    let store = build::open_store(root)?;
    let spool = store.scratch_dir().map_err(|error| Failure::from(BuildError::from(error)))?;
    Input::read(reader, spool.path(), &Limits::default())
        .map_err(|error| Failure::from(explain(error, &format!("the build context {what}"))))
}

fn repository(
    arguments: &InputArgs,
    environment: &Environment,
    root: &Path,
    secrets: &Secrets,
    address: &GitAddress,
) -> Result<Context, Failure> {
    // Git is in a process group of its own: without this, an interrupt would end this process alone.
    let signals = HeldSignals::hold().map_err(|error| failed_to_begin(&error))?;
    let store = Arc::new(build::open_store(root)?);
    let keep = options::build_argument(arguments, environment, KEEP_GIT_DIR);
    let keep = keep.map(|text| values::switch(&format!("--build-arg {KEEP_GIT_DIR}"), &text)).transpose()?;
    let repositories = repositories(environment, store, secrets, Cancel::default(), None);
    let tree = repositories.fetch(address, keep.filter(|keep| *keep), None, &|| signals.has_come())?;
    Ok(Context::gathered(tree.changes).map_err(|error| explain(error, &address.to_string()))?)
}

/// What reads repositories. `agent` is the socket of an ssh agent, where another than the caller's is
/// to be used.
pub(super) fn repositories(
    environment: &Environment,
    store: Arc<Store>,
    secrets: &Secrets,
    cancel: Cancel,
    agent: Option<PathBuf>,
) -> Repositories {
    let mut git = environment.git();
    git.ssh_agent = agent.or(git.ssh_agent);
    Repositories { store, secrets: secrets.clone(), git, now: build::now(), cancel }
}

fn failed_to_begin(error: &dyn std::error::Error) -> Failure {
    Failure::new(Kind::Retryable, format!("failed to start a process: {}", BuildError::describe(error)))
}

/// Downloads a file into the store, in a process of its own; gives its place.
fn download(
    arguments: &InputArgs,
    environment: &Environment,
    root: &Path,
    secrets: &Secrets,
    url: &str,
    mode: Mode,
) -> Result<PathBuf, Failure> {
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| failed_to_begin(&error))?;
    let work = || match fetch(arguments, environment, root, secrets, url, mode) {
        Ok(path) => {
            // Nobody reads it where the other process is gone.
            drop(theirs.write_all(path.as_os_str().as_encoded_bytes()));
            0
        }
        Err(failure) => i32::from(failure.report()),
    };
    let ended = sandbox::apart(work).map_err(|error| failed_to_begin(&error))?;
    drop(theirs);
    let mut path = String::new();
    ours.read_to_string(&mut path).map_err(|error| failed_to_begin(&error))?;
    match ended {
        Ended::Exited(0) if !path.is_empty() => Ok(path.into()),
        // It has said why.
        ended => Err(Failure::silent(process::exit_code(ended)?)),
    }
}

fn fetch(
    arguments: &InputArgs,
    environment: &Environment,
    root: &Path,
    secrets: &Secrets,
    url: &str,
    mode: Mode,
) -> Result<PathBuf, Failure> {
    let store = Arc::new(build::open_store(root)?);
    let runtime = build::runtime()?;
    runtime.block_on(async {
        let progress = Progress::standard(mode, environment.progress());
        let client = build::client(&arguments.insecure_registry, environment, &progress)?;
        let repositories = repositories(environment, store, secrets, Cancel::default(), None);
        let remotes = Remotes { client, progress: progress.clone(), repositories };
        let fetched = remotes.web(url, None).await;
        progress.finish();
        let file = fetched.map_err(|error| {
            let message = format!("the build context: {}", error.message);
            Failure::from(BuildError { message, ..error })
        })?;
        Ok(file.path)
    })
}
