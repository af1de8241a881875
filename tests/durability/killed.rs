//! Builds that are killed at any instant.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{files, names, push, repository, store_is_whole, undisturbed, until};
use crate::support::{HostState, Registry, Run, User, World, shared_registry, users};
use rustix::process::{Pid, Signal};

/// Which processes of a build are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// All that were started with it.
    Group,
    /// The one that was started; it waits for the next.
    Original,
    /// The one that builds, in namespaces of its own.
    Inner,
}

/// When they are killed.
#[derive(Debug, Clone)]
enum Moment {
    /// After this time.
    After(Duration),
    /// At the n-th event of this name.
    Event(&'static str, usize),
    /// When so many files are below this folder of the store.
    Files(&'static str, usize),
    /// When the registry has begun to receive a blob.
    Upload,
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().expect("a pid")).expect("not zero")
}

fn kill(child: &mut Child, victim: Victim) {
    // What has ended is still there until it is waited for, so its numbers are nobody else's.
    let _ = match victim {
        Victim::Group => rustix::process::kill_process_group(pid(child.id()), Signal::KILL),
        Victim::Original => rustix::process::kill_process(pid(child.id()), Signal::KILL),
        Victim::Inner => {
            let mut inner = None;
            until("nothing is started", || {
                inner = child_of(child.id());
                inner.is_some() || matches!(child.try_wait(), Ok(Some(_)))
            });
            inner.map_or(Ok(()), |inner| rustix::process::kill_process(pid(inner), Signal::KILL))
        }
    };
}

/// Whether the registry holds a part of a blob for a repository.
fn receives(registry: &Registry, name: &str) -> bool {
    !names(&repository(registry, name).join("_uploads")).is_empty()
}

/// Builds, kills, and gives whether the build was over before.
fn killed(world: &World, name: &str, moment: &Moment, victim: Victim) -> bool {
    let registry = shared_registry();
    let mut command = push(world, &registry.name(name));
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("a build");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
    match moment {
        Moment::After(time) => std::thread::sleep(*time),
        Moment::Event(event, number) => {
            let begin = format!("{{\"event\":\"{event}\"");
            let mut seen = 0;
            while seen < *number && lines.read_line(&mut line).expect("a line") > 0 {
                seen += usize::from(line.starts_with(&begin));
                line.clear();
            }
        }
        Moment::Files(folder, number) => {
            while files(&world.root().join(folder)).len() < *number && !ended(&mut child) {}
        }
        Moment::Upload => while !receives(registry, name) && !ended(&mut child) {},
    }
    kill(&mut child, victim);
    // Whoever still has the pipe keeps this from ending.
    let _ = std::io::copy(&mut lines, &mut std::io::sink());
    child.wait().expect("wait").success()
}

/// Asserts that no process of a build in this world is there any more, and with that no mount.
#[track_caller]
fn nothing_runs(world: &World) {
    let dir = world.path("");
    let dir = dir.to_str().expect("UTF-8").trim_end_matches('/');
    HostState::no_process(dir);
    until("a mount of the build is left", || {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        !processes.into_iter().any(|process| {
            let mounts = fs::read(process.path().join("mountinfo")).unwrap_or_default();
            String::from_utf8_lossy(&mounts).contains(dir)
        })
    });
    until("somebody holds a lock of the build", || {
        let scratch = world.root().join("scratch");
        names(&scratch).iter().filter(|name| name.ends_with(".lock")).all(|name| {
            let Ok(file) = File::options().write(true).open(scratch.join(name)) else { return true };
            file.try_lock().is_ok()
        })
    });
}

/// Kills a build in a new store, and looks at what is left and at what the same command gives then.
fn killed_and_built_again(label: &str, moment: &Moment, victim: Victim, user: User) {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    let world = World::of(user);
    let name = format!("durability/{label}");
    let shown = format!("{user:?}, {victim:?}, {moment:?}");
    let finished = killed(&world, &name, moment, victim);
    nothing_runs(&world);
    match registry.tag(&name, "latest") {
        // It may have been killed after that.
        Some(tag) => assert_eq!(tag, *digest, "{shown}"),
        None => assert!(!finished, "{shown}: the build has ended well, but moved no tag"),
    }
    store_is_whole(&world);
    let again = Run::new(push(&world, &registry.name(&name))).run().success();
    assert_eq!(registry.index(&name, "latest").digest, *digest, "{shown}");
    assert!(!again.stdout.contains("\"event\":\"warning\""), "{shown}\n{}", again.report());
    until("scratch space is not removed", || names(&world.root().join("scratch")).is_empty());
    store_is_whole(&world);
}

/// Kills at moments spread over the time that a build takes, as often as said, from `first` on.
fn killed_at_any_moment(victim: Victim, count: u32) {
    let (_, took) = undisturbed();
    let users = users();
    for at in 0..count {
        let moment = Moment::After(*took * (2 * at + 1) / (2 * count));
        let user = users[at as usize % users.len()];
        let label = format!("{victim:?}-{at}").to_lowercase();
        killed_and_built_again(&label, &moment, victim, user);
    }
}

#[test]
fn killed_with_all_that_it_started() {
    killed_at_any_moment(Victim::Group, 9);
}

#[test]
fn killed_without_those_that_it_started() {
    killed_at_any_moment(Victim::Original, 9);
}

#[test]
fn killed_within_its_namespaces() {
    killed_at_any_moment(Victim::Inner, 8);
}

#[test]
fn killed_where_it_hurts() {
    let moments = [
        Moment::Files("scratch", 2),
        Moment::Files("blobs", 2),
        Moment::Files("layers", 1),
        Moment::Event("started", 1),
        Moment::Event("finished", 1),
        Moment::Files("steps", 1),
        Moment::Event("finished", 6),
        Moment::Files("steps", 9),
        Moment::Upload,
        Moment::Event("pushed", 1),
        Moment::Event("pushed", 4),
    ];
    let users = users();
    for (at, moment) in moments.iter().enumerate() {
        let victim = [Victim::Group, Victim::Original, Victim::Inner][at % 3];
        killed_and_built_again(&format!("event-{at}"), moment, victim, users[at % users.len()]);
    }
}
