//! Commands whose ids are simulated: what they see and leave is what they see and leave with real ids.

mod support;

use support::{Index, Node, Outcome, Run, Rung, World, base, debian, is_root, layout, native_platform};

/// The first has real ids.
fn rungs() -> Vec<Rung> {
    if is_root() { vec![Rung::USERNS_ROOT, Rung::ONE_ID] } else { Vec::new() }
}

fn run(rung: Rung, world: &World, options: &[&str], dockerfile: &str) -> Outcome {
    let context = world.context("context", dockerfile);
    let secret = world.write("secret", "four");
    rung.build(world)
        .args(["--platform", native_platform(), "--timestamp", "1700000000"])
        .args(["--secret", &format!("id=s,src={}", secret.display())])
        .args(["--output", &layout(&world.path("out/layout"))])
        .args(if dockerfile.contains("$DEBIAN") {
            ["--build-arg".to_owned(), format!("DEBIAN={}", debian())]
        } else {
            ["--build-arg".to_owned(), base()]
        })
        .args(options)
        .arg(context)
        .run()
}

/// Builds with real ids and with simulated ones, and compares the images. Gives the last one.
fn same(dockerfile: &str) -> Option<Index> {
    let mut digests = Vec::new();
    let mut last = None;
    for rung in rungs() {
        let world = rung.world();
        run(rung, &world, &[], dockerfile).success();
        let index = Index::layout(&world.path("out/layout"));
        digests.push(index.digest.clone());
        last = Some(index);
    }
    digests.dedup();
    if digests.len() > 1 {
        let shown = |rung: Rung| {
            let world = rung.world();
            run(rung, &world, &[], dockerfile).success();
            let tree = Index::layout(&world.path("out/layout")).images.remove(0).tree();
            [
                tree.lines().join("\n"),
                String::from_utf8_lossy(tree.get("/seen").map_or(b"", Node::head)).into_owned(),
            ]
            .join("\n")
        };
        let [first, other] = [rungs()[0], rungs()[1]].map(shown);
        let differing = first.lines().zip(other.lines()).filter(|(one, other)| one != other);
        let differing: Vec<_> = differing.map(|(one, other)| format!("{one}\n  is {other}")).collect();
        panic!("{digests:?}\n{}", differing.join("\n"));
    }
    last
}

#[test]
fn secrets_belong_to_whom_they_are_for() {
    same(
        "ARG BASE\n\
        FROM $BASE\n\
        USER app\n\
        WORKDIR /tmp\n\
        RUN --mount=type=secret,id=s,uid=1000,gid=7,mode=0400 \
         cat /run/secrets/s > seen && stat -c '%u:%g %a' /run/secrets/s >> seen && test -r /run/secrets/s\n\
        RUN --mount=type=secret,id=s,mode=0400 if cat /run/secrets/s; then exit 1; fi; if test -r /run/secrets/s; then exit 1; fi\n\
        RUN --mount=type=secret,id=s,gid=1000,mode=0040,target=/run/a --mount=type=secret,id=s,uid=3,target=/run/b \
         cat /run/a >> seen; stat -c '%u:%g' /run/a /run/b >> seen\n",
    );
}

#[test]
fn files_without_attributes_keep_their_owners_when_they_move() {
    same(
        "ARG BASE\n\
        FROM $BASE\n\
        RUN mkdir -p /a /b && for n in 1 2 3 4 5; do ln -s x$n /a/$n && chown -h $n:7 /a/$n; done; mkfifo /a/p && chown 8:9 /a/p\n\
        RUN mv /a/1 /b/1 && mv /a/p /b/p && ln /a/2 /b/hard && mv /a/3 /a/moved && rm /a/4 && mv /a/5 /a/4 \
         && stat -c '%u:%g %h %n' /a/* /b/* > /seen\n\
        RUN mv /a /c && stat -c '%u:%g %h %n' /c/* /b/* >> /seen && ln -sf new /b/1\n\
        USER app\n\
        WORKDIR /tmp\n\
        RUN ln -s a l && mkfifo p\n\
        RUN mv l m && mv p q && stat -c '%u:%g %n' * > seen; if mv /b/1 /tmp/1; then exit 1; fi\n\
        USER root\n\
        RUN mv /tmp/m /tmp/q /b/ && stat -c '%u:%g %n' /b/* >> /seen\n",
    );
}

/// What another user than root is refused, and what it is not.
#[test]
fn users_have_their_rights_and_no_more() {
    same(
        "ARG BASE\n\
        FROM $BASE\n\
        RUN mkdir -m 700 /private && echo s > /private/s && mkdir -m 1777 /all && touch /all/roots && mkdir -m 711 /way && echo w > /way/w \
         && mkdir -m 775 /group && chgrp extra /group && mkdir -m 755 /theirs && chown app /theirs && echo r > /r && chmod 600 /r \
         && cp /bin/busybox /only && chmod 700 /only && mkdir /theirs/sub && touch /theirs/sub/f\n\
        COPY --chmod=755 <<'END' /try\n\
        try() { if \"$@\" > /dev/null 2>&1; then echo \"yes $*\"; else echo \"no $*\"; fi; }\n\
        write() { echo x > $1; }\n\
        for call in 'cat /private/s' 'ls /private' 'cd /private' 'stat /private/s' 'test -e /private/s' 'cat /way/w' 'ls /way' \\\n\
          'rm -f /all/roots' 'mv /all/roots /all/x' 'write /all/mine' 'rm /all/mine' 'write /group/f' 'mkdir /group/d' 'rmdir /group/d' \\\n\
          'write /etc/passwd' 'write /new' 'touch /etc/passwd' 'touch /way/w' 'chmod 644 /r' 'chmod 700 /all' 'chown app /r' 'cat /r' \\\n\
          'truncate -s 0 /etc/group' 'ln -s a /l' 'ln -s a /all/l' 'ln /etc/passwd /p' 'mkfifo /p' 'mkfifo /all/p' 'rm /all/p /all/l' \\\n\
          'rmdir /theirs/sub' 'rm /theirs/sub/f' 'mv /theirs/sub /theirs/other' 'mv /theirs /x' 'mkdir -p /all/a/b' 'rm -r /all/a' '/only true' \\\n\
          'cp /etc/passwd /theirs/p' 'chmod 600 /theirs/p' 'chgrp extra /theirs/p' 'chgrp 0 /theirs/p' 'touch -d 200101010000 /theirs/p' \\\n\
          'touch -d 200101010000 /all/roots' 'test -w /etc' 'test -w /theirs' 'test -x /only' 'test -r /r' 'test -w /group' 'mkdir /etc' 'rmdir /etc' \\\n\
          'cat /proc/self/status' 'write /proc/self/comm' 'write /dev/null' 'write /dev/shm/x' 'mkdir /dev/x' 'cat /no/such' 'chroot / true'; do\n\
          (try $call)\n\
        done\n\
        END\n\
        RUN cp -a /all /all-1 && cp -a /theirs /theirs-1\n\
        USER app\n\
        WORKDIR /home\n\
        RUN sh /try > /dev/shm/o 2>&1; cat /dev/shm/o > /all/out; cat /all/out\n\
        USER 77:88\n\
        RUN sh /try > /dev/shm/o 2>&1; cat /dev/shm/o > /all/out-77\n",
    );
}

#[test]
fn records_of_owners_are_not_copied() {
    same(
        "ARG DEBIAN\n\
        FROM $DEBIAN\n\
        RUN echo a > /a && chown 5:6 /a && cp --preserve=mode,xattr /a /b && cp -a /a /c && cp --preserve=all /a /d \
         && stat -c '%u:%g %n' /a /b /c /d > /seen\n\
        RUN cp --preserve=xattr /a /e && stat -c '%u:%g %n' /e >> /seen\n",
    );
}

#[test]
fn options_of_commands() {
    for rung in rungs() {
        let world = rung.world();
        let dockerfile = "ARG BASE\nFROM $BASE\n\
            RUN --network=none ls /sys/class/net > /net; touch /f && chown 5:6 /f && su app -s /bin/sh -c id > /id\n\
            RUN ulimit -a > /limits; sh -c 'ulimit -n 100; touch /g && chown 7 /g'\n";
        run(rung, &world, &["--ulimit", "rttime=5000000"], dockerfile).success();
        let tree = Index::layout(&world.path("out/layout")).images.remove(0).tree();
        assert_eq!(tree.get("/f").expect("a file").uid, 5);
        assert_eq!(tree.text("/id"), "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)\n");
        let outcome = run(rung, &world, &["--ulimit", "rttime=5000", "--no-cache"], dockerfile);
        if rung == Rung::ONE_ID {
            outcome.code(1).stderr_has("rttime");
        }
    }
}

/// Where the kernel gives a command no /proc of its own, the numbers of processes there are not those that
/// the supervisor hears.
#[test]
fn masked_proc_is_a_reason() {
    for rung in rungs().into_iter().filter(|rung| *rung == Rung::ONE_ID) {
        let world = rung.world();
        let context = world.context("context", "ARG BASE\nFROM $BASE\nRUN true\n");
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind /dev/null /proc/cpuinfo && exec setpriv --reuid 20011 --regid 20012 --clear-groups \"$@\"")
            .arg("sh")
            .arg(world.binary())
            .args(["build", "--isolation", "one-id", "--build-arg", &base(), "--root"])
            .arg(world.root())
            .arg(context)
            .env("HOME", world.path("home"));
        let outcome = Run::new(command).run();
        assert_ne!(outcome.exit(), 0, "{}", outcome.report());
        outcome.stderr_has("one-id").stderr_has("a /proc of its own");
    }
}

/// Many processes that ask at once, are killed while they wait, and tell lies.
const STORM: &str = r#"
use strict; use POSIX;
$SIG{CHLD} = 'DEFAULT';
mkdir "/storm"; chmod 0777, "/storm";
my $long = "/storm/" . ("x" x 200 . "/") x 19;
sub work {
    my ($n) = @_;
    my $path = "/storm/$n";
    for my $turn (1 .. 3) {
        open(my $f, '>', $path) or die "open $path: $!"; close $f;
        chown $n, $n + 1, $path or die "chown: $!";
        my @s = stat $path; die "stat $path: $s[4]:$s[5]" unless $s[4] == $n && $s[5] == $n + 1;
        symlink 'a', "$path.l"; chown $n, $n, "$path.l"; lstat "$path.l"; unlink "$path.l";
        stat $long; stat "/" . ("y" x 5000); mkdir $long; chown 1, 1, "/storm/none";
        syscall(4, -1, -1); syscall(92, 1, 1, 1); syscall(257, -100, 1, 0100); syscall(117, 5, 5, 5) if $turn == 3;
    }
    die "uid $<" unless POSIX::getuid() == 5;
    POSIX::_exit(0);
}
my %live; my $failed = 0;
for my $n (1 .. 1000) {
    my $pid = fork; die "fork: $!" unless defined $pid;
    if ($pid == 0) { eval { work($n) }; print STDERR $@; POSIX::_exit(1); }
    $live{$pid} = 1;
    if (keys %live > 200) { my $p = wait; $failed++ if $?; delete $live{$p}; }
}
while ((my $p = wait) > 0) { $failed++ if $?; }
# Killed in the middle.
my @pids;
for my $n (1 .. 100) {
    my $pid = fork;
    if ($pid == 0) { while (1) { open(my $f, '>', "/storm/k$n"); chown $n, $n, "/storm/k$n"; stat "/storm/k$n"; } }
    push @pids, $pid;
}
select undef, undef, undef, 0.3;
kill 9, @pids; waitpid $_, 0 for @pids;
unlink glob "/storm/k*";
my @fds = (); opendir(my $d, "/proc/self/fd"); @fds = readdir $d; closedir $d;
print "failed $failed, ", scalar(@fds) < 12 ? "few" : "many", " descriptors\n";
exit($failed ? 1 : 0);
"#;

#[test]
fn storm_of_processes() {
    for rung in rungs() {
        let world = rung.world();
        world.write("context/storm", STORM);
        let dockerfile = "ARG DEBIAN\nFROM $DEBIAN\nCOPY storm /\n\
            RUN timeout 120 perl /storm && stat -c '%u:%g' /storm/1 /storm/1000 > /seen; rm -rf /storm.d\n";
        let dockerfile =
            dockerfile.replace("COPY storm /", "COPY storm /s.pl").replace("perl /storm", "perl /s.pl");
        let outcome = run(rung, &world, &[], &dockerfile).success();
        assert!(outcome.took.as_secs() < 120, "{}", outcome.report());
        outcome.stderr_has("failed 0, few descriptors");
        let tree = Index::layout(&world.path("out/layout")).images.remove(0).tree();
        assert_eq!(tree.text("/seen"), "1:2\n1000:1001\n");
        for number in [1, 500, 1000] {
            let node = tree.get(format!("/storm/{number}")).expect("a file");
            assert_eq!((node.uid, node.gid), (number, number + 1), "{number}");
        }
    }
}
