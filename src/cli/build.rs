//! `fanfold build`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfold_platforms::Platform;

use super::agents::Agents;
use super::args::BuildArgs;
use super::attempt::{Attempt, Brief};
use super::environment::Environment;
use super::errors::{Failure, Kind};
use super::host::{Execution, Machine};
use super::options::{self, Prepared};
use super::process::{Umask, exit_code};
use super::{check, limits, report, signals, sites};
use crate::cache::{CacheTarget, Imports};
use crate::coordinator::{BuildError, Emulator, ErrorKind, Options, Way};
use crate::dockerfile::Dockerfile;
use crate::engine::Settings;
use crate::plan::{RunSite, foresee_runs};
use crate::progress::{Event, Progress, Summary};
use crate::registry::{self, Client, RetryCallback};
use crate::sandbox::{self, Entered, Interpreter, Isolation, Sandbox, remove_tree};
use crate::store::{ScratchDir, Store};

/// Threads for waiting on networks and children; work that takes a core has threads of its own.
const WAITING_THREADS: usize = 2;

/// Builds, and gives the exit code.
pub(super) fn run(arguments: &BuildArgs) -> Result<u8, Failure> {
    let environment = Environment::read();
    if let Some(query) = check::of_build(arguments)? {
        return check::answer(&query, &environment);
    }
    let prepared = options::prepare(arguments, &environment)?;
    let sites = foresee_runs(&prepared.dockerfile, &prepared.request)
        .map_err(|error| report::failure(&error.into(), &prepared.source))?;
    let umask = Umask::current();
    if !sites.is_empty() {
        return in_namespaces(arguments, &environment, prepared, &sites, umask);
    }
    if !may_have_triggers(&prepared.dockerfile) {
        return match inside(arguments, &environment, prepared, None, &[], umask)? {
            Ending::Code(code) => Ok(code),
            Ending::NeedsSandbox(sites) => Err(unexpected(&sites)),
        };
    }
    // Commands may turn up that a base has left. Then the build begins again in namespaces, which only
    // a process with one thread can enter.
    let mut prepared = Some(prepared);
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| fork_failed(&error))?;
    let ended = sandbox::apart(|| {
        let prepared = prepared.take().expect("it is taken once, in the child");
        match inside(arguments, &environment, prepared, None, &[], umask) {
            Ok(Ending::Code(code)) => i32::from(code),
            Ok(Ending::NeedsSandbox(sites)) => {
                // Nobody reads it where the other process is gone.
                drop(theirs.write_all(sites::write(&sites).as_bytes()));
                0
            }
            Err(failure) => i32::from(failure.report()),
        }
    })
    .map_err(|error| fork_failed(&error))?;
    drop(theirs);
    let mut text = String::new();
    ours.read_to_string(&mut text).map_err(|error| fork_failed(&error))?;
    match (sites::read(&text), prepared) {
        (sites, Some(prepared)) if !sites.is_empty() => {
            in_namespaces(arguments, &environment, prepared, &sites, umask)
        }
        _ => exit_code(ended),
    }
}

/// Whether a base may have left instructions for the stages on it.
fn may_have_triggers(dockerfile: &Dockerfile) -> bool {
    dockerfile.stages.iter().any(|stage| stage.base != "scratch")
}

fn fork_failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Kind::Retryable, format!("failed to start a process: {}", BuildError::describe(error)))
}

/// Builds in namespaces of its own; the original process waits.
fn in_namespaces(
    arguments: &BuildArgs,
    environment: &Environment,
    prepared: Prepared,
    sites: &[RunSite],
    umask: Umask,
) -> Result<u8, Failure> {
    let isolation = match arguments.input.host.isolation.chosen() {
        Ok(isolation) => isolation,
        Err(reason) => {
            let fix = Some("leave --isolation away, or choose another one".to_owned());
            return Err(cannot_run(&prepared, sites, reason, fix));
        }
    };
    let scratch = prepared.root.clone();
    let config = sandbox::Config { path: environment.search_path(), isolation, scratch };
    let cgroups = limits::prepare(&prepared)?;
    let entered = sandbox::enter(&config);
    let entered = match (entered, cgroups) {
        (Ok(Entered::Inside(mut sandbox)), Some(cgroups)) => {
            sandbox.limit(cgroups);
            Ok(Entered::Inside(sandbox))
        }
        (entered, Some(cgroups)) => {
            // Nothing of the build runs any more.
            cgroups.remove();
            entered
        }
        (entered, None) => entered,
    };
    match entered {
        Ok(Entered::Inside(sandbox)) => {
            match inside(arguments, environment, prepared, Some(sandbox), sites, umask)? {
                Ending::Code(code) => Ok(code),
                Ending::NeedsSandbox(sites) => Err(unexpected(&sites)),
            }
        }
        Ok(Entered::Outside(ended)) => exit_code(ended),
        Err(error) => Err(cannot_run(&prepared, sites, &BuildError::describe(&error), error.fix())),
    }
}

/// The failure of a build with commands where none can be run.
fn cannot_run(prepared: &Prepared, sites: &[RunSite], reason: &str, fix: Option<String>) -> Failure {
    let mut failure = BuildError::new(ErrorKind::Platform, format!("this RUN cannot be run: {reason}"));
    if let Some(first) = sites.first() {
        failure = failure.at(first.span, &first.platform);
    }
    failure.hint = fix;
    report::failure(&failure, &prepared.source)
}

/// Commands in a build whose stages have neither RUN nor a base that could have left one.
fn unexpected(sites: &[RunSite]) -> Failure {
    let texts: Vec<_> = sites.iter().map(|site| site.text.as_str()).collect();
    Failure::new(Kind::Platform, format!("nothing can run here: {}", texts.join(", ")))
}

/// How a build ended in one process.
enum Ending {
    /// With this exit code.
    Code(u8),
    /// Not at all: these commands need namespaces.
    NeedsSandbox(Vec<RunSite>),
}

/// The platforms that are emulated, with what stands in for the processor.
#[derive(Debug, Default)]
struct Emulation {
    emulators: Vec<(Platform, Emulator)>,
    cpu_models: Vec<(Platform, String)>,
    interpreters: Vec<(Platform, Interpreter)>,
    /// Handlers last as long as this.
    _machine: Option<Machine>,
    /// Where programs were tried: removed when nobody waits for that.
    _probes: Option<ScratchDir>,
}

/// Builds, in namespaces of its own where there are commands to run.
fn inside(
    arguments: &BuildArgs,
    environment: &Environment,
    prepared: Prepared,
    sandbox: Option<Sandbox>,
    sites: &[RunSite],
    umask: Umask,
) -> Result<Ending, Failure> {
    let store = open_store(&prepared.root)?;
    let store = Arc::new(store);
    let emulation = match &sandbox {
        Some(sandbox) => prove(arguments, environment, &prepared, &store, sandbox.isolation(), sites)?,
        None => Emulation::default(),
    };
    let runtime = runtime()?;
    let sandbox = sandbox.map(Arc::new);
    runtime.block_on(build(arguments, environment, prepared, store, sandbox, emulation, umask))
}

/// Opens the store; one that cannot be opened now cannot be opened later.
pub(super) fn open_store(root: &Path) -> Result<Store, Failure> {
    Store::open(root).map_err(|error| {
        let full = error.is_disk_full();
        let error = BuildError::from(error);
        if full {
            return Failure::from(error);
        }
        let hint = "name a folder that you can write to with --root";
        Failure::from(BuildError { kind: ErrorKind::Invalid, ..error }.with_hint(hint))
    })
}

/// Threads that wait.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Fails only where a provider is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WAITING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Retryable, format!("failed to start threads: {error}")))
}

/// Proves that every platform whose commands will run can be run, before anything is pulled.
fn prove(
    arguments: &BuildArgs,
    environment: &Environment,
    prepared: &Prepared,
    store: &Store,
    isolation: Isolation,
    sites: &[RunSite],
) -> Result<Emulation, Failure> {
    let scratch = store.scratch_dir().map_err(|error| Failure::from(BuildError::from(error)))?;
    let probes = scratch.path().to_owned();
    let mut machine = Machine::new(&arguments.input.host, &environment.search_path(), probes, isolation);
    let mut emulation = Emulation::default();
    for site in sites {
        match machine.execution(&site.platform) {
            Execution::Native => {}
            Execution::Emulated(emulator) => {
                if let (Way::Exec, Some(machine)) = (emulator.way(), site.platform.elf_machine()) {
                    let path = emulator.path().to_owned();
                    let interpreter = Interpreter { machine: machine.e_machine, path };
                    emulation.interpreters.push((site.platform.clone(), interpreter));
                }
                emulation.emulators.push((site.platform.clone(), emulator));
                if let Some(model) = fanfold_qemu::cpu_model(&site.platform) {
                    emulation.cpu_models.push((site.platform.clone(), model.to_owned()));
                }
            }
            Execution::Unavailable { reasons, fix } => {
                let text = format!("this RUN needs emulation and none works: {}", reasons.join("; "));
                let failure =
                    BuildError::new(ErrorKind::Platform, text).with_hint(fix).at(site.span, &site.platform);
                return Err(report::failure(&failure, &prepared.source));
            }
        }
    }
    emulation._machine = Some(machine);
    emulation._probes = Some(scratch);
    Ok(emulation)
}

async fn build(
    arguments: &BuildArgs,
    environment: &Environment,
    prepared: Prepared,
    store: Arc<Store>,
    sandbox: Option<Arc<Sandbox>>,
    emulation: Emulation,
    umask: Umask,
) -> Result<Ending, Failure> {
    let begun = Instant::now();
    let interrupted = signals::listen(prepared.deadline)
        .map_err(|error| Failure::new(Kind::Retryable, format!("failed to listen for signals: {error}")))?;
    let progress = Progress::standard(prepared.mode, environment.progress());
    let client = client(&arguments.input.insecure_registry, environment, &progress)?;
    remove_leftovers(&store);
    let sockets = store.scratch_dir().map_err(|error| Failure::from(BuildError::from(error)))?;
    let agents = Agents::start(&prepared.agents, sockets.path(), environment)?;
    let isolated = sandbox.clone();
    let settings = Settings {
        sandbox,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        compression: prepared.compression.compression,
        force_compression: prepared.compression.force,
        epoch: prepared.request.epoch,
        now: now(),
        cpu_models: emulation.cpu_models.clone(),
        interpreters: emulation.interpreters.clone(),
        step_timeout: prepared.step_timeout,
        resolv_conf: "/etc/resolv.conf".into(),
        hosts: "/etc/hosts".into(),
        secrets: prepared.secrets.clone(),
        ssh: agents.sockets.clone(),
    };
    let agent = agents.sockets.get("default").cloned();
    let places = match &isolated {
        Some(sandbox) => surroundings(sandbox, &emulation),
        None => Vec::new(),
    };
    let Prepared {
        dockerfile,
        source,
        request,
        context,
        named,
        annotations,
        index,
        names,
        outputs,
        cache_from,
        cache_to,
        compression,
        jobs,
        step_timeout,
        ..
    } = prepared;
    let mut remarks: Vec<Event> = places.into_iter().map(|text| Event::Note { text }).collect();
    let source = Arc::new(source);
    if outputs.is_empty() {
        let text = "no output named: the result stays in the store; use --push or --output to hand it over";
        remarks.push(Event::Note { text: text.to_owned() });
    }
    let options = Arc::new(Options {
        request,
        context,
        named,
        no_cache: arguments.no_cache,
        inline_cache: cache_to.iter().any(|cache| cache.target == CacheTarget::Inline),
        blobs_here: compression.force || outputs.is_empty() || outputs.iter().any(|output| !output.is_push()),
        pull: arguments.input.pull,
        jobs,
        step_timeout,
        keep_going: arguments.keep_going,
        index,
        annotations,
        emulators: emulation.emulators,
    });
    let imports = Arc::new(Imports::new(cache_from, client.clone(), progress.clone()));
    let brief = Brief {
        arguments,
        environment,
        dockerfile,
        source: Arc::clone(&source),
        options,
        settings,
        agent,
        store,
        client,
        progress: progress.clone(),
        names,
        outputs,
        imports,
        cache_to,
        umask,
    };
    let (finished, written) = match brief.carry_out(remarks, interrupted).await? {
        Attempt::Done(finished, written) => (finished, written),
        Attempt::NeedsSandbox(sites) => return Ok(Ending::NeedsSandbox(sites)),
        Attempt::Failed(failures) => {
            return Ok(Ending::Code(report::end(&progress, &failures, Some(&source))));
        }
    };
    let top = finished.built.top().digest().to_string();
    progress.send(Event::Finished(Summary {
        platforms: finished.platforms,
        digest: top.clone(),
        index: finished.built.index.is_some(),
        names: brief.names.iter().map(ToString::to_string).collect(),
        outputs: written,
        duration: begun.elapsed(),
    }));
    progress.finish();
    if arguments.quiet {
        report::result(&top)?;
    }
    Ok(Ending::Code(0))
}

/// What people should know of how commands are run here.
fn surroundings(sandbox: &Sandbox, emulation: &Emulation) -> Vec<String> {
    let mut told = vec![format!("RUN in a {sandbox} ({})", sandbox.isolation())];
    told.extend(sandbox.refused().iter().map(|refused| format!("not {refused}")));
    told.extend(sandbox.remarks().iter().cloned());
    told.extend(emulation.emulators.iter().map(|(platform, emulator)| {
        format!("{platform} is emulated by {} ({})", emulator.path().display(), emulator.way().name())
    }));
    told
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// What speaks with registries and web servers.
pub(super) fn client(
    insecure: &[String],
    environment: &Environment,
    progress: &Progress,
) -> Result<Client, Failure> {
    let heard = progress.clone();
    let on_retry: RetryCallback = Arc::new(move |notice: &registry::RetryNotice| {
        heard.send(Event::Retry {
            host: notice.host.clone(),
            operation: notice.operation.clone(),
            wait: notice.wait,
            attempt: notice.attempt,
            of: notice.of,
            reason: notice.reason.clone(),
        });
    });
    Client::new(registry::Config {
        insecure: insecure.to_vec(),
        credentials: environment.credentials(),
        ca_file: environment.ca_file(),
        ca_dirs: environment.ca_dirs(),
        on_retry: Some(on_retry),
        ..registry::Config::default()
    })
    .map_err(|error| BuildError::from(error).into())
}

/// Removes what killed builds left behind, and what this one needs no more, without keeping anybody waiting.
fn remove_leftovers(store: &Store) {
    store.sweep_in_background();
    let leftovers = store.leftovers();
    std::thread::spawn(move || {
        // What cannot be removed now is tried again by the next build.
        leftovers.remove(&|path| drop(remove_tree(path)));
    });
}
