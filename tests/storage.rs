//! What the roots of commands are made of: the same image where the kernel refuses overlays on the
//! store, and where there are more layers than an overlay takes.

mod support;

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::{HostState, Index, Outcome, Run, Rung, World, base, is_root, layout};

/// Everything that depends on how a root is made: files of each kind, owners, deletions, mounts.
const DOCKERFILE: &str = "ARG BASE\n\
    FROM $BASE AS files\n\
    RUN mkdir -p /files/d && echo f > /files/f && chown 11:12 /files/f /files/d && ln -s f /files/l && chown -h 13:14 /files/l\n\
    FROM $BASE\n\
    COPY --from=files /files /o\n\
    RUN chmod 4755 /o/f && ln /o/f /o/hard && mkfifo /o/p && chown 15:16 /o/p && mv /o/l /o/moved && rm -r /o/d && mkdir /o/d\n\
    RUN stat -c '%u:%g %a %F %h %n' /o/* > /seen && rm /o/f && mv /o/p /o/pipe\n\
    COPY --chown=app text /home/app/\n\
    RUN chown app /home/app\n\
    RUN --mount=from=files,source=/files,target=/m,rw cat /m/f >> /seen && touch /m/made && rm /m/f\n\
    RUN --mount=type=cache,id=c,target=/var/c,uid=1000 echo one > /var/c/n\n\
    RUN --mount=type=cache,id=c,target=/c cat /c/n >> /seen && stat -c %u:%g /c /c/n >> /seen\n\
    USER app\n\
    WORKDIR /home/app\n\
    RUN echo mine > mine && ln -s mine l && stat -c '%U %n' * > listed && if rm /seen; then exit 1; fi\n\
    FROM files\n\
    COPY --from=1 / /all\n\
    RUN stat -c '%u:%g %a %F %n' /all/o/* /all/home/app/* > /listed\n";

const RUNGS: [Rung; 3] = [Rung::USERNS_ROOT, Rung::USERNS, Rung::ONE_ID];

/// Mounts an overlay, gives a part of it to the user, covers the other places where changes could go
/// when that is wanted, and becomes the user.
const ON_OVERLAY: &str = "set -e; o=$1; ids=$2; everywhere=$3; shift 3\n\
    mkdir -p $o/lower $o/upper $o/work $o/merged\n\
    mount -t overlay -o lowerdir=$o/lower,upperdir=$o/upper,workdir=$o/work none $o/merged\n\
    mkdir $o/merged/root $o/merged/tmp; chmod 1777 $o/merged/tmp; chown $ids $o/merged/root\n\
    if [ $everywhere = yes ]; then for p in /dev/shm /var/tmp; do mount --bind $o/merged/tmp $p; done; fi\n\
    exec setpriv --reuid ${ids%:*} --regid ${ids#*:} --clear-groups \"$@\"\n";

fn built(world: &World, build: Run, context: &std::path::Path) -> (Outcome, String) {
    let build = build.args(["--timestamp", "1700000000", "--build-arg", &base()]);
    let outcome = build.args(["--output", &layout(&world.path("out/layout"))]).arg(context).run().success();
    (outcome, Index::layout(&world.path("out/layout")).digest)
}

/// Builds with a store on an overlay.
fn on_overlay(rung: Rung, everywhere: bool) -> (Outcome, String) {
    let world = rung.world();
    world.write("context/text", "text\n");
    let context = world.context("context", DOCKERFILE);
    let owner = std::fs::metadata(world.root()).expect("the store");
    let overlay = world.path("overlay");
    let root = overlay.join("merged/root");
    let tmp = if everywhere { overlay.join("merged/tmp") } else { world.path("tmp") };
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", ON_OVERLAY, "sh"])
        .arg(&overlay)
        .arg(format!("{}:{}", owner.uid(), owner.gid()))
        .arg(if everywhere { "yes" } else { "no" })
        .arg(world.binary())
        .args(["build", "--progress", "plain", "--root"])
        .arg(root)
        .current_dir(world.path(""))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", world.path("home"))
        .env("TMPDIR", tmp);
    let host = HostState::now();
    let run = Run::new(command);
    let found =
        built(&world, if rung == Rung::ONE_ID { run.args(["--isolation", "one-id"]) } else { run }, &context);
    host.unchanged();
    let left: Vec<_> = std::fs::read_dir(world.path("tmp")).expect("a folder").flatten().collect();
    assert!(left.is_empty(), "{left:?} is left");
    found
}

#[test]
fn a_store_on_an_overlay() {
    if !is_root() {
        return;
    }
    let world = Rung::USERNS_ROOT.world();
    world.write("context/text", "text\n");
    let context = world.context("context", DOCKERFILE);
    let (_, expected) = built(&world, Rung::USERNS_ROOT.build(&world), &context);
    for rung in RUNGS {
        let (outcome, digest) = on_overlay(rung, false);
        outcome.stderr_has("files are copied for each stage");
        assert_eq!(digest, expected, "{rung:?}");
        let (outcome, digest) = on_overlay(rung, true);
        outcome.stderr_has("files are copied for each stage");
        assert_eq!(digest, expected, "{rung:?}");
    }
}

#[test]
fn more_layers_than_an_overlay_takes() {
    let mut dockerfile = "ARG BASE\nFROM $BASE\n".to_owned();
    for number in 0..505 {
        let chown = if number % 100 == 1 { "--chown=5:6 " } else { "" };
        let _ = writeln!(dockerfile, "COPY {chown}text /n/{number}");
    }
    dockerfile.push_str(
        "RUN ls /n | wc -l > /count && stat -c '%u:%g %n' /n/1 /n/101 /n/400 /n/401 >> /count && rm /n/3 /n/500 \
         && echo x > /n/4 && ln -s 1 /n/l && chown -h 7:8 /n/l\n\
         COPY text /n/3\n\
         RUN cat /n/3 /n/4 >> /count && stat -c %u:%g /n/l >> /count && mv /n/l /n/m && if ls /n/500; then exit 1; fi\n",
    );
    let mut digests = Vec::new();
    for rung in [Rung::first(), Rung::ONE_ID] {
        if !is_root() && rung == Rung::ONE_ID {
            continue;
        }
        let world = rung.world();
        world.write("context/text", "text\n");
        let context = world.context("context", &dockerfile);
        digests.push(built(&world, rung.build(&world), &context).1);
        let image = Index::layout(&world.path("out/layout")).images.remove(0);
        let tree = image.tree();
        let expected = "505\n5:6 /n/1\n5:6 /n/101\n0:0 /n/400\n5:6 /n/401\ntext\nx\n7:8\n";
        assert_eq!(tree.text("/count"), expected, "{rung:?}");
        let moved = tree.get("/n/m").expect("a link");
        assert_eq!((moved.uid, moved.gid), (7, 8), "{rung:?}");
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}
