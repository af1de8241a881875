//! From flags and files to what a build works with. Everything that can be wrong with a command
//! line is found here, before anything begins.

use std::collections::{BTreeMap, BTreeSet};

use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfold_platforms::{Platform, parse_list};

use super::agents::{self, Agent};
use super::args::{BuildArgs, InputArgs, NetworkArg, ProgressArg};
use super::environment::Environment;
use super::errors::{Failure, Source, render_syntax};
use super::inputs::{self, Inputs};
use super::signals::Deadline;
use super::{contexts, secrets, values};
use crate::cache::{CacheFrom, CacheSpecError, CacheTo};
use crate::coordinator::{Annotation, ContextAt, Scope};
use crate::dockerfile::{self, CheckOptions, Dockerfile, Kind, SyntaxError};
use crate::image::Reference;
use crate::output::{self, OutputSpec, check_destinations};
use crate::plan::{NamedContext, Network, Request};
use crate::progress::Mode;
use crate::sandbox::Limits;
use crate::secrets::Secrets;

/// The build argument that stands for the `check` directive.
const CHECKS: &str = "BUILDKIT_DOCKERFILE_CHECK";
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Build argument that asks for an index of a single image.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";
/// The end of the year 9999, the last that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// A build, understood.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) dockerfile: Dockerfile,
    pub(super) source: Source,
    pub(super) request: Request,
    pub(super) context: ContextAt,
    pub(super) named: Vec<Option<ContextAt>>,
    pub(super) secrets: Secrets,
    pub(super) agents: BTreeMap<String, Agent>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) index: bool,
    pub(super) names: Vec<Reference>,
    pub(super) outputs: Vec<OutputSpec>,
    pub(super) cache_from: Vec<CacheFrom>,
    pub(super) cache_to: Vec<CacheTo>,
    pub(super) compression: output::Chosen,
    pub(super) root: PathBuf,
    pub(super) mode: Mode,
    pub(super) jobs: usize,
    pub(super) limits: Limits,
    pub(super) deadline: Option<Deadline>,
    pub(super) step_timeout: Option<Duration>,
}

/// Reads everything that the flags name.
pub(super) fn prepare(arguments: &BuildArgs, environment: &Environment) -> Result<Prepared, Failure> {
    arguments.refused.refuse()?;
    let time = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| values::duration(flag, text)).transpose()
    };
    let deadline = time("--timeout", &arguments.timeout)?.map(Deadline::after);
    let step_timeout = time("--step-timeout", &arguments.step_timeout)?;
    let limits = limits(arguments)?;
    let input = &arguments.input;
    let root = input.root.clone().or_else(|| environment.default_root()).ok_or_else(|| {
        Failure::usage("there is no HOME to keep the store in").with_hint("pass --root DIR")
    })?;
    let begun = begin(input, environment, &root, progress_mode(arguments))?;
    let dockerfile =
        begun.parse().map_err(|error| Failure::rendered(render_syntax(&error, &begun.source)))?;
    let names = arguments.tag.iter().map(|name| tag(name)).collect::<Result<Vec<_>, _>>()?;
    let outputs = outputs(arguments, &names)?;
    let cache_from = caches("--cache-from", &arguments.cache_from, CacheFrom::parse)?;
    let cache_to = caches("--cache-to", &arguments.cache_to, CacheTo::parse)?;
    let compression = output::compression(&outputs).map_err(|error| {
        Failure::usage(format!("--output: {error}")).with_hint("give all outputs of a build the same one")
    })?;
    let asked = request(input, environment, &begun, &dockerfile, arguments.timestamp)?;
    let request = for_build(arguments, asked)?;
    let index = index(&request)?;
    let annotations = annotations(arguments, &request, index)?;
    let files = [&arguments.metadata_file, &arguments.iidfile];
    let files: Vec<&Path> = files.into_iter().flatten().map(PathBuf::as_path).collect();
    check_destinations(&outputs, &files)?;
    Ok(Prepared {
        root,
        limits,
        deadline,
        step_timeout,
        mode: mode(arguments, &outputs)?,
        jobs: match arguments.jobs {
            Some(0) => return Err(Failure::usage("--jobs 0: write 1 or more")),
            Some(jobs) => jobs,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        },
        dockerfile,
        source: begun.source,
        request,
        context: begun.context,
        named: begun.named,
        secrets: begun.secrets,
        agents: begun.agents,
        annotations,
        index,
        names,
        outputs,
        cache_from,
        cache_to,
        compression,
    })
}

/// What a build and a check begin with.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) source: Source,
    /// The Dockerfile as it was found.
    bytes: Vec<u8>,
    pub(super) context: ContextAt,
    contexts: Vec<NamedContext>,
    pub(super) named: Vec<Option<ContextAt>>,
    secrets: Secrets,
    agents: BTreeMap<String, Agent>,
    build_args: BTreeMap<String, String>,
    /// What stands for the `check` directive.
    checks: Option<CheckOptions>,
}

/// Finds the build context and the Dockerfile, and whatever else is named.
pub(super) fn begin(
    arguments: &InputArgs,
    environment: &Environment,
    root: &Path,
    mode: Mode,
) -> Result<Begun, Failure> {
    values::registries(&arguments.insecure_registry)?;
    let secrets = secrets::read(&arguments.secret, environment)?;
    let agents = agents::read(&arguments.ssh, environment)?;
    let build_args = build_args(arguments, environment)?;
    let checks = match build_args.get(CHECKS) {
        None => None,
        Some(text) => Some(
            CheckOptions::parse(text)
                .map_err(|error| Failure::usage(format!("the build argument {CHECKS}: {error}")))?,
        ),
    };
    let (contexts, named) = contexts::named(&arguments.build_context)?
        .into_iter()
        .map(|named| (named.context, named.files))
        .unzip();
    let Inputs { context, name, bytes } = inputs::read(arguments, environment, root, &secrets, mode)?;
    // The parser says where text is not UTF-8; an excerpt shows it as well as it can.
    let source = Source { name, text: String::from_utf8_lossy(&bytes).into_owned() };
    Ok(Begun { source, bytes, context, contexts, named, secrets, agents, build_args, checks })
}

impl Begun {
    /// Parses the Dockerfile.
    pub(super) fn parse(&self) -> Result<Dockerfile, SyntaxError> {
        let parsed = dockerfile::parse_with_checks(&self.bytes, self.checks.clone())?;
        match std::str::from_utf8(&self.bytes) {
            Ok(_) => Ok(parsed),
            Err(error) => {
                let lines = self.bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                let line = u32::try_from(lines + 1).unwrap_or(u32::MAX);
                let message = "the Dockerfile is not UTF-8".to_owned();
                Err(SyntaxError { message, line, columns: None, suggestion: None })
            }
        }
    }
}

/// The value of one `--build-arg`.
pub(super) fn build_argument(arguments: &InputArgs, environment: &Environment, name: &str) -> Option<String> {
    let mut given = arguments.build_arg.iter().rev();
    let text = given.find(|text| text.split_once('=').map_or(text.as_str(), |(name, _)| name) == name)?;
    match text.split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => environment.text(name),
    }
}

fn tag(text: &str) -> Result<Reference, Failure> {
    let name: Reference = text.parse().map_err(|error| Failure::usage(format!("--tag {text}: {error}")))?;
    if name.digest().is_some() {
        return Err(Failure::usage(format!("--tag {text}: a digest cannot be chosen"))
            .with_hint("drop everything from the @ on"));
    }
    Ok(name)
}

fn outputs(arguments: &BuildArgs, names: &[Reference]) -> Result<Vec<OutputSpec>, Failure> {
    let mut outputs = arguments
        .output
        .iter()
        .map(|text| {
            OutputSpec::parse(text).map_err(|error| Failure::usage(format!("--output {text}: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if arguments.push && !outputs.iter().any(|output| matches!(output, OutputSpec::Registry { .. })) {
        outputs.push(OutputSpec::Registry { names: Vec::new(), by_digest: false, compression: None });
    }
    let nameless =
        |output: &OutputSpec| matches!(output, OutputSpec::Registry { names, .. } if names.is_empty());
    if names.is_empty() && outputs.iter().any(nameless) {
        return Err(Failure::usage("there is no name to push under").with_hint("add -t NAME"));
    }
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Failure::usage("only one output can go to standard output"));
    }
    Ok(outputs)
}

/// The values of `--cache-from` or `--cache-to`.
fn caches<T>(
    flag: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, CacheSpecError>,
) -> Result<Vec<T>, Failure> {
    let parse = |text: &String| {
        parse(text).map_err(|error| {
            Failure::usage(format!("{flag} {text}: {error}")).with_hint(match flag {
                "--cache-from" => "write type=registry,ref=NAME or type=local,src=DIR",
                _ => "write type=registry,ref=NAME, type=local,dest=DIR or type=inline",
            })
        })
    };
    texts.iter().map(parse).collect()
}

/// Reads lists of platforms; each is named once.
pub(super) fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts {
        let parsed =
            parse_list(text).map_err(|error| Failure::usage(format!("--platform {text}: {error}")))?;
        for platform in parsed {
            if platform.os() != "linux" {
                return Err(Failure::usage(format!("--platform {text}: only linux images are built")));
            }
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
    }
    Ok(platforms)
}

/// Names in a comma-separated list that may be given several times.
fn names(lists: &[String]) -> Vec<String> {
    let names = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The default of `ARG SOURCE_DATE_EPOCH=…` before the first FROM.
fn default_epoch(dockerfile: &Dockerfile) -> Option<String> {
    let declarations = dockerfile.preamble.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(declarations) => Some(declarations),
        _ => None,
    });
    let mut named = declarations.flatten().filter(|declaration| declaration.name == EPOCH);
    named.next_back()?.default.clone().filter(|text| !text.is_empty())
}

fn build_args(arguments: &InputArgs, environment: &Environment) -> Result<BTreeMap<String, String>, Failure> {
    let mut build_args = BTreeMap::new();
    for text in &arguments.build_arg {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("--build-arg {text}: the name is missing"))),
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Some(value) = environment.text(text) {
                    build_args.insert(text.clone(), value);
                }
            }
        }
    }
    Ok(build_args)
}

/// What is asked for, with defaults for all that only a build can be told.
pub(super) fn request(
    arguments: &InputArgs,
    environment: &Environment,
    begun: &Begun,
    dockerfile: &Dockerfile,
    timestamp: Option<i64>,
) -> Result<Request, Failure> {
    let platforms = platforms(&arguments.platform)?;
    let mut build_args = begun.build_args.clone();
    let epoch = match timestamp {
        Some(seconds) => Some(seconds),
        None => {
            let given = build_args.get(EPOCH).cloned().or_else(|| environment.text(EPOCH));
            let text = given.or_else(|| default_epoch(dockerfile));
            text.map(|text| {
                text.parse().map_err(|_| {
                    Failure::usage(format!("{EPOCH}={text} is not a number of seconds since 1970"))
                })
            })
            .transpose()?
        }
    };
    if let Some(seconds) = epoch {
        if !(0..=LAST_SECOND).contains(&seconds) {
            return Err(Failure::usage(format!(
                "the timestamp {seconds} is not between the years 1970 and 9999"
            )));
        }
        build_args.entry(EPOCH.to_owned()).or_insert_with(|| seconds.to_string());
    }
    Ok(Request {
        explicit_platforms: !platforms.is_empty(),
        platforms: if platforms.is_empty() { vec![Platform::host()] } else { platforms },
        build_platform: Platform::host(),
        build_args,
        no_cache_stages: Vec::new(),
        target: arguments.target.clone().filter(|target| !target.is_empty()),
        labels: Vec::new(),
        network: Network::Host,
        extra_hosts: Vec::new(),
        shm_size: None,
        ulimits: Vec::new(),
        contexts: begun.contexts.clone(),
        secrets: begun.secrets.ids().map(str::to_owned).collect(),
        agents: begun.agents.keys().cloned().collect(),
        shared_caches: BTreeSet::new(),
        epoch,
    })
}

/// Adds what only a build can be told.
fn for_build(arguments: &BuildArgs, request: Request) -> Result<Request, Failure> {
    let labels =
        arguments.label.iter().map(|text| values::pair("--label", text)).collect::<Result<_, _>>()?;
    Ok(Request {
        no_cache_stages: names(&arguments.no_cache_filter),
        labels,
        network: match arguments.network {
            NetworkArg::Default | NetworkArg::Host => Network::Host,
            NetworkArg::None => Network::None,
        },
        extra_hosts: arguments.add_host.iter().map(|text| values::host(text)).collect::<Result<_, _>>()?,
        shm_size: arguments.shm_size.as_deref().map(|text| values::size("--shm-size", text)).transpose()?,
        ulimits: arguments.ulimit.iter().map(|text| values::ulimit(text)).collect::<Result<_, _>>()?,
        shared_caches: arguments.shared_cache_mount.iter().cloned().collect(),
        ..request
    })
}

/// What each command may use.
fn limits(arguments: &BuildArgs) -> Result<Limits, Failure> {
    Ok(Limits {
        memory: arguments.memory.as_deref().map(values::memory).transpose()?,
        cpus: arguments.cpus.as_deref().map(values::cpus).transpose()?,
        pids: arguments.pids.as_deref().map(values::pids).transpose()?,
    })
}

/// Whether there is an index: of several images always, of one only where it is asked for.
fn index(request: &Request) -> Result<bool, Failure> {
    let several = request.platforms.len() > 1;
    let Some(text) = request.build_args.get(MULTI_PLATFORM) else { return Ok(several) };
    let wanted = values::switch(&format!("--build-arg {MULTI_PLATFORM}"), text)?;
    if several && !wanted {
        return Err(Failure::usage(format!(
            "--build-arg {MULTI_PLATFORM}={text}: several platforms make an index"
        ))
        .with_hint("drop it, or build for one platform"));
    }
    Ok(wanted)
}

fn annotations(arguments: &BuildArgs, request: &Request, index: bool) -> Result<Vec<Annotation>, Failure> {
    let mut all = Vec::new();
    for text in &arguments.annotation {
        for annotation in values::annotations(text)? {
            if annotation.scope != Scope::Manifest && !index {
                return Err(Failure::usage(format!("--annotation {text}: a single platform makes no index"))
                    .with_hint(format!("use the scope manifest:, or pass --build-arg {MULTI_PLATFORM}=1")));
            }
            if let Some(platform) = &annotation.platform
                && !request.platforms.contains(platform)
            {
                return Err(Failure::usage(format!("--annotation {text}: {platform} is not being built")));
            }
            all.push(annotation);
        }
    }
    Ok(all)
}

/// How progress is shown, as far as the flags say.
pub(super) fn progress_mode(arguments: &BuildArgs) -> Mode {
    match arguments.progress {
        _ if arguments.quiet => Mode::Quiet,
        ProgressArg::Auto => Mode::Auto,
        ProgressArg::Tty => Mode::Tty,
        ProgressArg::Plain => Mode::Plain,
        ProgressArg::Json | ProgressArg::Rawjson => Mode::Json,
        ProgressArg::Quiet | ProgressArg::None => Mode::Quiet,
    }
}

fn mode(arguments: &BuildArgs, outputs: &[OutputSpec]) -> Result<Mode, Failure> {
    let mode = progress_mode(arguments);
    let stdout_taken = outputs.iter().any(OutputSpec::is_stdout);
    if stdout_taken && (mode == Mode::Json || arguments.quiet) {
        return Err(Failure::usage(
            "standard output cannot take both the result and --progress json or --quiet",
        )
        .with_hint("write the result into a file with dest=FILE"));
    }
    Ok(mode)
}
