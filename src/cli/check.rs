//! `fanfold check`: finds mistakes in a Dockerfile, and says what is in it. It builds nothing.

use std::path::Path;
use std::sync::Arc;

use super::args::{BuildArgs, CheckArgs, FormatArg, InputArgs};
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::findings::Findings;
use super::outline::{self, Outline};
use super::{options, report};
use crate::coordinator::{BuildError, Check, Checked, Options};
use crate::dockerfile::{Dockerfile, suggest};
use crate::progress::Mode;
use crate::registry::{self, Client, RetryPolicy};
use crate::store::Store;

/// Exit code where a build would fail.
const FAILED: u8 = 1;
/// A check is read by somebody who waits: a registry that does not answer is asked once more.
const TRIES: u32 = 2;

/// What is asked of a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Its mistakes.
    Check,
    /// What is in it, and how it would be built.
    Outline,
    /// Its stages.
    Targets,
}

/// A question about a Dockerfile.
#[derive(Debug)]
pub(super) struct Query<'a> {
    input: &'a InputArgs,
    timestamp: Option<i64>,
    method: Method,
    json: bool,
}

/// Answers, and gives the exit code.
pub(super) fn run(arguments: &CheckArgs) -> Result<u8, Failure> {
    let query = Query {
        input: &arguments.input,
        timestamp: None,
        method: if arguments.outline { Method::Outline } else { Method::Check },
        json: arguments.format == FormatArg::Json,
    };
    answer(&query, &Environment::read())
}

/// The question that the flags of `fanfold build` ask, where they do not ask for a build.
pub(super) fn of_build(arguments: &BuildArgs) -> Result<Option<Query<'_>>, Failure> {
    arguments.refused.refuse()?;
    let call = arguments.call.as_deref().map(parse_call).transpose()?;
    let (method, json) = match (call, arguments.check) {
        (None, false) | (Some((None, _)), false) if arguments.format.is_some() => {
            return Err(Failure::usage("--format says how --check answers, and nothing is asked")
                .with_hint("add --check, or drop --format"));
        }
        (None, false) => return Ok(None),
        (None, true) => (Method::Check, false),
        (Some((None, _)), false) => return Ok(None),
        (Some((Some(method), json)), false) => (method, json),
        (Some((Some(Method::Check), json)), true) => (Method::Check, json),
        (Some(_), true) => {
            return Err(Failure::usage("--check and --call ask for two things").with_hint("drop one of them"));
        }
    };
    let (input, timestamp) = (&arguments.input, arguments.timestamp);
    let json = json || arguments.format == Some(FormatArg::Json);
    Ok(Some(Query { input, timestamp, method, json }))
}

/// Reads `METHOD[,format=FORMAT]`; building is no method.
fn parse_call(text: &str) -> Result<(Option<Method>, bool), Failure> {
    const METHODS: [(&str, Option<Method>); 4] = [
        ("build", None),
        ("check", Some(Method::Check)),
        ("outline", Some(Method::Outline)),
        ("targets", Some(Method::Targets)),
    ];
    let mut words = text.split(',');
    let name = words.next().unwrap_or_default();
    let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == name) else {
        let failure = Failure::usage(format!("--call {text}: there is no method `{name}`"));
        return Err(match suggest::nearest(name, METHODS.map(|(known, _)| known)) {
            Some(known) => failure.with_hint(format!("did you mean {known}?")),
            None => failure.with_hint("write build, check, outline or targets"),
        });
    };
    let mut json = false;
    for word in words {
        json = match word {
            "format=json" => true,
            "format=text" => false,
            _ => {
                return Err(Failure::usage(format!("--call {text}: `{word}` is not known"))
                    .with_hint("write format=json or format=text"));
            }
        };
    }
    Ok((*method, json))
}

/// Answers a question, and gives the exit code.
pub(super) fn answer(query: &Query<'_>, environment: &Environment) -> Result<u8, Failure> {
    // A check needs nothing of what is kept in the store.
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::new(Kind::Retryable, format!("no temporary folder: {error}")))?;
    let root = query.input.root.clone().or_else(|| environment.default_root());
    let root = root.filter(|root| Store::open(root).is_ok()).unwrap_or_else(|| temporary.path().to_owned());
    let begun = options::begin(query.input, environment, &root, Mode::Auto)?;
    let dockerfile = match begun.parse() {
        Ok(dockerfile) => dockerfile,
        Err(error) => return show(&Findings::of_syntax(&begun.source, &error), query.json),
    };
    let request = options::request(query.input, environment, &begun, &dockerfile, query.timestamp)?;
    if query.method == Method::Targets {
        report::result(&outline::targets(&dockerfile, request.target.as_deref(), query.json))?;
        return Ok(0);
    }
    let source = begun.source;
    let options = Arc::new(Options {
        request,
        context: begun.context,
        named: begun.named,
        blobs_here: false,
        no_cache: false,
        pull: query.input.pull,
        jobs: 1,
        step_timeout: None,
        keep_going: false,
        index: false,
        annotations: Vec::new(),
        emulators: Vec::new(),
    });
    let checked = survey(query, environment, &root, &dockerfile, &options)?;
    let findings = Findings::of_check(&source, &dockerfile, &checked);
    if query.method == Method::Check {
        return show(&findings, query.json);
    }
    // A fault without a place is one of the request: there is no such stage.
    if let Some(fault) = checked.survey.faults.iter().find(|fault| fault.span.is_none()) {
        return Err(BuildError::from(fault.clone()).into());
    }
    let outline = Outline::new(&source.name, &dockerfile, &checked.survey, &options.request);
    outline::show(&outline, query.input, environment, query.json)
}

/// Prints findings, and gives the exit code.
fn show(findings: &Findings, json: bool) -> Result<u8, Failure> {
    report::result(&if json { findings.json().to_string() } else { findings.text() })?;
    Ok(if findings.failed() { FAILED } else { 0 })
}

/// Plans all stages. When it returns, the process has one thread again.
fn survey(
    query: &Query<'_>,
    environment: &Environment,
    root: &Path,
    dockerfile: &Dockerfile,
    options: &Arc<Options>,
) -> Result<Checked, Failure> {
    let store = Store::open(root).map_err(|error| Failure::from(BuildError::from(error)))?;
    // Fails only where a provider is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::new(registry::Config {
        insecure: query.input.insecure_registry.clone(),
        credentials: environment.credentials(),
        ca_file: environment.ca_file(),
        ca_dirs: environment.ca_dirs(),
        retry: RetryPolicy { tries: TRIES, ..RetryPolicy::default() },
        ..registry::Config::default()
    })
    .map_err(|error| Failure::from(BuildError::from(error)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Retryable, format!("failed to start threads: {error}")))?;
    let check = Check { dockerfile, options: Arc::clone(options), store: &store, client };
    Ok(runtime.block_on(check.run()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        for (text, want) in [
            ("build", Some((None, false))),
            ("check", Some((Some(Method::Check), false))),
            ("check,format=json", Some((Some(Method::Check), true))),
            ("outline,format=text", Some((Some(Method::Outline), false))),
            ("targets,format=json", Some((Some(Method::Targets), true))),
            ("lint", None),
            ("check,format=xml", None),
            ("", None),
        ] {
            assert_eq!(parse_call(text).ok(), want, "{text}");
        }
    }
}
