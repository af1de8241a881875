//! RUN: what is carried out, in which environment, with what mounted.

use super::copy::{Naming, Place};
use super::instruction::{StageBuilder, clean_path};
use super::key::Key;
use super::mounts::{MountFrom, RunMount};
use super::planner::Stop;
use super::platform_args::{CACHE_NAMESPACE, HOSTNAME, is_proxy};
use super::{Network, Op, PlanError, RunOp, history};
use crate::dockerfile::{Instruction, Mount, Run, Script, Span, expand};
use crate::image::Digest;

/// Where scripts with an interpreter line are.
const SCRIPTS: &str = "/dev/pipes";
/// Name of the files of a context in the layer that is made of them for a mount.
const SOURCE: &str = "/source";

/// What the mounts of a RUN name with `from=`, as far as that is known without variables.
pub(super) fn mount_sources(run: &Run) -> Vec<String> {
    let mut keep = |word: &str| Ok(word.to_owned());
    let mounts = run.mounts.iter().filter_map(|raw| Mount::parse(raw, &mut keep).ok());
    mounts.filter_map(|mount| mount.from().map(str::to_owned)).collect()
}

/// The mounts of a command, with what they add to its key.
struct Mounted {
    mounts: Vec<RunMount>,
    key: Key,
    agents: u32,
}

impl StageBuilder<'_, '_> {
    pub(super) fn run(&mut self, run: &Run, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        self.lint_script(run, span);
        if run.security.as_deref().is_some_and(|mode| mode != "sandbox") {
            return Err(PlanError::unsupported(span, "RUN --security=insecure")
                .with_hint("no step of a build runs with more privilege than another")
                .into());
        }
        if let Some(device) = run.devices.first() {
            return Err(PlanError::unsupported(span, &format!("RUN --device={device}"))
                .with_hint("no step of a build sees a device of the host")
                .into());
        }
        let network = match run.network.as_deref() {
            None | Some("default") => self.planner.request.network,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => {
                return Err(PlanError::at(span, format!("invalid network mode \"{other}\""))
                    .with_word(other)
                    .into());
            }
        };
        let mut mounts = self.mounts(run, instruction)?;
        let argv = match run.script() {
            Script::Exec(words) => words,
            Script::Text(text) => self.shell_command(text),
            Script::Shebang { name, body } => {
                let target = format!("{SCRIPTS}/{name}");
                mounts.key = mounts.key.text("script").text(&body);
                mounts.mounts.push(RunMount::Script { target: target.clone(), content: body });
                self.shell_command(target)
            }
        };
        let env = self.state.scope.variables().to_vec();
        let request = self.planner.request;
        let declared = |name: &str| env.iter().any(|(known, _)| known == name);
        let proxies = request
            .build_args
            .iter()
            .filter(|(name, _)| is_proxy(name) && !declared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let op = RunOp {
            cwd: self.cwd(),
            user: self.state.config.config.user.clone(),
            network,
            extra_hosts: request.extra_hosts.clone(),
            shm_size: request.shm_size,
            ulimits: request.ulimits.clone(),
            argv,
            env,
            proxies,
            mounts: mounts.mounts,
            hostname: request.build_args.get(HOSTNAME).cloned(),
        };
        let limits: Vec<_> = op.ulimits.iter().map(|(_, soft, hard)| format!("{soft}:{hard}")).collect();
        let own = Key::new("run")
            .text(&self.state.platform.to_string())
            .list(op.argv.iter().map(String::as_str))
            .list(op.env.iter().map(|(name, _)| name.as_str()))
            .list(op.env.iter().map(|(_, value)| value.as_str()))
            .text(&op.cwd)
            .text(&op.user)
            .text(match network {
                Network::Host => "host",
                Network::None => "none",
            })
            .list(op.extra_hosts.iter().map(|(name, _)| name.as_str()))
            .list(op.extra_hosts.iter().map(|(_, address)| address.as_str()))
            .number(request.epoch)
            .number(op.shm_size.and_then(|size| i64::try_from(size).ok()))
            .list(op.ulimits.iter().map(|(name, ..)| name.as_str()))
            .list(limits.iter().map(String::as_str))
            .digest(&mounts.key.finish())
            .finish();
        let created_by = history::run(&self.state.scope.current_arguments(), &op.argv);
        self.push(own, Op::Run(op), instruction, created_by);
        Ok(())
    }

    fn shell_command(&self, text: String) -> Vec<String> {
        let mut words = self.shell();
        words.push(text);
        words
    }

    /// Resolves the mounts of a RUN, in order.
    fn mounts(&mut self, run: &Run, instruction: &Instruction) -> Result<Mounted, Stop> {
        let mut mounted = Mounted { mounts: Vec::new(), key: Key::new("mounts"), agents: 0 };
        for raw in &run.mounts {
            let mount = self.parse_mount(raw, instruction.span)?;
            self.mount(mount, &mut mounted, instruction)?;
        }
        Ok(mounted)
    }

    fn parse_mount(&mut self, raw: &str, span: Span) -> Result<Mount, PlanError> {
        let escape = self.planner.dockerfile.escape;
        let mut undefined = Vec::new();
        let mount = {
            let scope = &self.state.scope;
            let mut fill = |word: &str| {
                let expanded = expand::expand(word, escape, &|name| scope.get(name))?;
                undefined.extend(expanded.undefined);
                Ok(expanded.text)
            };
            Mount::parse(raw, &mut fill)
        };
        self.note_undefined(&undefined, span);
        mount.map_err(|error| {
            let word = error.word().unwrap_or(raw).to_owned();
            PlanError::at(span, error.to_string()).with_word(word)
        })
    }

    fn mount(&mut self, mount: Mount, mounted: &mut Mounted, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        match mount {
            Mount::Bind { target, source, from, read_only } => {
                let target = self.target(target.as_deref(), span)?;
                let (from, source) = self.mount_from(from.as_deref(), &source, &target, instruction)?;
                let files = if from.step().is_some() { "files" } else { "nothing" };
                mounted.take("bind", &[&target, &source, files, if read_only { "ro" } else { "rw" }]);
                mounted.mounts.push(RunMount::Bind { target, from, source, read_only });
            }
            Mount::Cache { target, id, sharing, source, from, mode, uid, gid, read_only } => {
                let target = self.target(target.as_deref(), span)?;
                let id = id.unwrap_or_else(|| target.clone());
                let owner = [mode.unwrap_or(0o755), uid.unwrap_or(0), gid.unwrap_or(0)];
                let initial = match &from {
                    None => None,
                    Some(name) => {
                        let source = source.as_deref().unwrap_or("/");
                        let (from, source) = self.mount_from(Some(name), source, &target, instruction)?;
                        Some((from, source))
                    }
                };
                let text = format!("{owner:?}");
                let rest = [source.as_deref().unwrap_or(""), from.as_deref().unwrap_or("")];
                let access = if read_only { "ro" } else { "rw" };
                mounted.take("cache", &[&target, &id, sharing.name(), &text, rest[0], rest[1], access]);
                let cache = self.cache_key(&id);
                let [mode, uid, gid] = owner;
                mounted.mounts.push(RunMount::Cache {
                    target,
                    cache,
                    sharing,
                    initial,
                    mode,
                    uid,
                    gid,
                    read_only,
                });
            }
            Mount::Tmpfs { target, size } => {
                let target = self.target(target.as_deref(), span)?;
                mounted.take("tmpfs", &[&target, &size.map_or_else(String::new, |size| size.to_string())]);
                mounted.mounts.push(RunMount::Tmpfs { target, size });
            }
            Mount::Secret { target, id, env, required, mode, uid, gid } => {
                let target = target.map(|target| self.target(Some(&target), span)).transpose()?;
                let given = self.planner.request.secrets.contains(&id);
                let owner = format!("{mode} {uid} {gid} {given}");
                let file = target.as_deref().unwrap_or("");
                mounted.take("secret", &[&id, file, env.as_deref().unwrap_or(""), &owner]);
                if self.is_given("secret", &id, given, required, span)? {
                    mounted.mounts.push(RunMount::Secret { id, target, env, mode, uid, gid });
                }
            }
            Mount::Ssh { target, id, required, mode, uid, gid } => {
                let target = target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{}", mounted.agents));
                let target = self.target(Some(&target), span)?;
                mounted.agents += 1;
                let given = self.planner.request.agents.contains(&id);
                mounted.take("ssh", &[&id, &target, &format!("{mode} {uid} {gid} {given}")]);
                if self.is_given("ssh", &id, given, required, span)? {
                    mounted.mounts.push(RunMount::Ssh { id, target, mode, uid, gid });
                }
            }
        }
        Ok(())
    }

    /// Where a mount goes: relative to the working directory, which it is itself without a target.
    fn target(&self, target: Option<&str>, span: Span) -> Result<String, PlanError> {
        let cwd = self.cwd();
        let path = match target {
            None => cwd,
            Some(target) if target.starts_with('/') => clean_path(target),
            Some(target) => clean_path(&format!("{cwd}/{target}")),
        };
        if path == "/" {
            return Err(PlanError::at(span, "invalid mount target \"/\"")
                .with_hint("name a directory with target=, or set a WORKDIR first"));
        }
        Ok(path)
    }

    /// Whose files a mount shows, and which path of them.
    fn mount_from(
        &mut self,
        from: Option<&str>,
        source: &str,
        target: &str,
        instruction: &Instruction,
    ) -> Result<(MountFrom, String), Stop> {
        let place = match from {
            None => Place::Files(super::FileSource::Context),
            Some(name) => self.place(name, Naming::Mount(target), instruction.span)?,
        };
        Ok(match place {
            Place::Nothing => (MountFrom::Nothing, source.to_owned()),
            Place::Step(id) => (MountFrom::Step(id), source.to_owned()),
            Place::Files(files) => {
                let mut origin = self.origin(instruction);
                let name = from.unwrap_or("build context");
                origin.text = format!("mount {} of {name}", clean_path(source));
                origin.number += 1;
                let platform = self.state.platform.clone();
                let source = clean_path(source);
                let id = self.planner.snapshot(files, &source, SOURCE, platform, origin)?;
                (MountFrom::Step(id), SOURCE.to_owned())
            }
        })
    }

    /// What tells cache mounts apart. The platform is part of it: programs of one do not run on another.
    fn cache_key(&mut self, id: &str) -> Digest {
        self.planner.caches.insert(id.to_owned());
        let request = self.planner.request;
        let platform = self.state.platform.to_string();
        let shared = request.shared_caches.contains(id);
        Key::new("cache mount")
            .option(request.build_args.get(CACHE_NAMESPACE).map(String::as_str))
            .text(id)
            .option((!shared).then_some(platform.as_str()))
            .finish()
    }

    /// Whether a secret or agent was given; an optional one may be missing.
    fn is_given(
        &mut self,
        what: &str,
        id: &str,
        given: bool,
        required: bool,
        span: Span,
    ) -> Result<bool, PlanError> {
        // Who only checks a Dockerfile gives no secrets.
        if self.planner.faults.is_some() {
            return Ok(true);
        }
        if !given {
            let flag =
                if what == "ssh" { format!("--ssh {id}") } else { format!("--secret id={id},src=FILE") };
            if required {
                return Err(PlanError::at(span, format!("{what} {id}: not found"))
                    .with_hint(format!("pass {flag}"))
                    .with_word(id));
            }
            let hint = format!("pass {flag}");
            self.remark(format!("{what} \"{id}\" was not given; mount skipped"), span, id, hint);
        }
        Ok(given)
    }
}

impl Mounted {
    /// Adds the options of one mount to the key.
    fn take(&mut self, kind: &str, options: &[&str]) {
        let key = std::mem::replace(&mut self.key, Key::new(""));
        self.key = key.text(kind).list(options.iter().copied());
    }
}
