//! Disks without space or inodes, and disks that can no longer be written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use super::{push, repository, undisturbed};
use crate::support::{Run, User, World, is_root, shared_registry, users};

/// Mounts a small disk as the store, builds, notes what is left, makes the disk large, builds again, and
/// reads the store. Mounts and processes end with the shell.
const ON_A_SMALL_DISK: &str = r#"
root=$1 options=$2 notes=$3 tags=$4
shift 4
mkdir -p "$notes"
mount -t tmpfs -o "$options" none "$root" || exit 99
"$@" >"$notes/first.out" 2>"$notes/first.err"
echo $? >"$notes/first.code"
ls -A "$root/scratch" >"$notes/scratch" 2>/dev/null
ls -A "$tags" >"$notes/tags" 2>/dev/null
mount -o remount,rw,size=256m,nr_inodes=100000 "$root" || exit 99
"$@" >"$notes/second.out" 2>"$notes/second.err"
echo $? >"$notes/second.code"
umount "$root" || exit 99
"#;

/// The shell of a test with mounts of its own, and the words that make a command the world's user's.
fn apart(world: &World, script: &str) -> (Command, Vec<String>) {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).stdin(Stdio::null());
    let owner = fs::metadata(world.root()).expect("the store");
    let user = [format!("--reuid={}", owner.uid()), format!("--regid={}", owner.gid())];
    let user = if world.user() == User::Root { Vec::new() } else { user.to_vec() };
    let become_user = if user.is_empty() {
        Vec::new()
    } else {
        [vec!["setpriv".to_owned(), "--clear-groups".to_owned()], user].concat()
    };
    (shell, become_user)
}

/// Gives a command's variables and nothing else to a shell that will execute it, and its words.
fn hand_over(shell: &mut Command, command: &Command) {
    shell.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell.arg(command.get_program()).args(command.get_args());
}

/// Builds on a disk with these options, and asserts what must hold. Gives whether it was large enough.
fn on_a_small_disk(user: User, name: &str, options: &str) -> bool {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    let world = World::of(user);
    let owner = fs::metadata(world.root()).expect("the store");
    let options = format!("{options},mode=755,uid={},gid={}", owner.uid(), owner.gid());
    let (mut shell, become_user) = apart(&world, ON_A_SMALL_DISK);
    let tags = repository(registry, name).join("_manifests/tags");
    shell.arg(world.root()).arg(&options).arg(world.path("notes")).arg(tags).args(become_user);
    hand_over(&mut shell, &push(&world, &registry.name(name)));
    let outcome = Run::new(shell).run().success();
    let note = |name: &str| fs::read_to_string(world.path(&format!("notes/{name}"))).unwrap_or_default();
    let report = |which: &str| {
        let (out, err) = (note(&format!("{which}.out")), note(&format!("{which}.err")));
        format!("{user:?}, {options}, {which}\n{}{out}{err}", outcome.stderr)
    };
    let first = note("first.code").trim().to_owned();
    let said = report("first");
    match first.as_str() {
        "0" => {}
        "75" => {
            assert!(said.contains("hint") && said.contains("free some space"), "{said}");
            assert_eq!(note("tags"), "", "{said}");
        }
        // A command that cannot write has failed as any other that has. Without an inode for its own
        // directory the kernel mounts an overlay, but only to be read.
        "1" => assert!(
            ["No space left", "Read-only file system", "mounted read-only", "exit code: 255"]
                .iter()
                .any(|reason| said.contains(reason)),
            "{said}"
        ),
        other => panic!("exit code {other}\n{said}"),
    }
    assert_eq!(note("scratch"), "", "{said}");
    assert_eq!(note("second.code").trim(), "0", "{}\nbefore: {said}", report("second"));
    assert_eq!(registry.index(name, "latest").digest, *digest, "{}", report("second"));
    first == "0"
}

#[test]
fn disk_without_space_or_inodes() {
    if !is_root() {
        return;
    }
    for (user, sizes) in [
        (User::Root, &[600, 1200, 3000, 3800, 5800, 6600, 7400, 8000, 8500, 9000, 9300, 12000][..]),
        (User::Plain, &[900, 2600, 4600, 6200, 7700, 8300, 8800, 12000]),
    ] {
        let space = |size: &i32| {
            let name = format!("durability/full-{user:?}-{size}").to_lowercase();
            on_a_small_disk(user, &name, &format!("size={size}k,nr_inodes=100000"))
        };
        let fitted: Vec<bool> = sizes.iter().map(space).collect();
        assert!(!fitted[0] && fitted.ends_with(&[true]), "{user:?}: {fitted:?}");
    }
    for (user, numbers) in [
        (User::Root, &[20, 110, 220, 300, 400, 430, 450, 470, 600][..]),
        (User::Plain, &[30, 160, 310, 410, 440, 460, 600]),
    ] {
        let inodes = |number: &i32| {
            let name = format!("durability/inodes-{user:?}-{number}").to_lowercase();
            on_a_small_disk(user, &name, &format!("size=256m,nr_inodes={number}"))
        };
        let fitted: Vec<bool> = numbers.iter().map(inodes).collect();
        assert!(!fitted[0] && fitted.ends_with(&[true]), "{user:?}: {fitted:?}");
    }
}

/// Builds, makes the disk read-only, and builds again.
const ON_A_READ_ONLY_DISK: &str = r#"
root=$1 options=$2 notes=$3
shift 3
mkdir -p "$notes"
mount -t tmpfs -o "$options" none "$root" || exit 99
"$@" >"$notes/first.out" 2>"$notes/first.err"
echo $? >"$notes/first.code"
mount -o remount,ro "$root" || exit 99
"$@" >"$notes/second.out" 2>"$notes/second.err"
echo $? >"$notes/second.code"
mount -o remount,rw "$root" || exit 99
"$@" >"$notes/third.out" 2>"$notes/third.err"
echo $? >"$notes/third.code"
umount "$root" || exit 99
"#;

#[test]
fn disk_that_has_become_read_only() {
    if !is_root() {
        return;
    }
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    for user in users() {
        let world = World::of(user);
        let name = format!("durability/readonly-{user:?}").to_lowercase();
        let owner = fs::metadata(world.root()).expect("the store");
        let options = format!("size=64m,mode=755,uid={},gid={}", owner.uid(), owner.gid());
        let (mut shell, become_user) = apart(&world, ON_A_READ_ONLY_DISK);
        shell.arg(world.root()).arg(&options).arg(world.path("notes")).args(become_user);
        hand_over(&mut shell, &push(&world, &registry.name(&name)));
        Run::new(shell).run().success();
        let note = |name: &str| fs::read_to_string(world.path(&format!("notes/{name}"))).unwrap_or_default();
        let second = note("second.out") + &note("second.err");
        assert_eq!(note("first.code").trim(), "0", "{user:?}: {}", note("first.out"));
        assert!(["2", "75"].contains(&note("second.code").trim()), "{user:?}: {second}");
        let root = world.root();
        assert!(second.contains(root.to_str().expect("UTF-8")), "{user:?}: {second}");
        assert!(second.contains("Read-only file system"), "{user:?}: {second}");
        assert_eq!(note("third.code").trim(), "0", "{user:?}: {}", note("third.out"));
        assert_eq!(registry.index(&name, "latest").digest, *digest);
    }
}
