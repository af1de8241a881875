//! The filter of system calls that every command runs under.

#![cfg(target_arch = "x86_64")]

mod support;

use support::{Index, World, base, debian, users};

fn layout(world: &World) -> String {
    format!("type=oci,tar=false,dest={}", world.path("out/layout").display())
}

#[test]
fn every_command_is_filtered() {
    for user in users() {
        let world = World::of(user);
        // The shell of the 386 base is run by the kernel itself, by calls of the i386 ABI.
        let context = world.context(
            "context",
            "ARG BASE\n\
             FROM $BASE\n\
             RUN grep -e ^Seccomp: -e ^NoNewPrivs: /proc/self/status > /of_root\n\
             RUN uname -m > /machine && cat /proc/self/auxv | wc -c > /auxv\n\
             RUN if unshare -U true 2> /error; then exit 1; fi\n\
             RUN if mount -t tmpfs none /tmp 2> /dev/null; then exit 1; fi\n\
             RUN chroot / id -u > /chroot && mknod /fifo p && ifconfig lo | grep -c LOOPBACK > /socket\n\
             USER app\n\
             RUN grep -e ^Seccomp: -e ^NoNewPrivs: /proc/self/status > /tmp/of_app\n\
             RUN if unshare -U true 2> /dev/null; then exit 1; fi\n",
        );
        world
            .build()
            .args(["--platform", "linux/amd64,linux/386,linux/arm64", "--build-arg", &base()])
            .args(["-o", &layout(&world)])
            .arg(&context)
            .run()
            .success();
        let index = Index::layout(&world.path("out/layout"));
        for (platform, machine) in
            [("linux/amd64", "x86_64\n"), ("linux/386", "i686\n"), ("linux/arm64", "aarch64\n")]
        {
            let tree = index.image(platform).tree();
            for file in ["/of_root", "/tmp/of_app"] {
                assert_eq!(tree.text(file), "NoNewPrivs:\t0\nSeccomp:\t2\n", "{user:?} {platform} {file}");
            }
            assert_eq!(tree.text("/machine"), machine, "{user:?}");
            assert_eq!(
                (tree.text("/chroot"), tree.text("/socket")),
                ("0\n".into(), "1\n".into()),
                "{platform}"
            );
            let error = tree.text("/error");
            assert!(error.contains("Operation not permitted"), "{user:?} {platform}: {error}");
        }
        // An auxiliary vector of 32-bit numbers: no emulator stands between.
        let size =
            |platform| index.image(platform).tree().text("/auxv").trim().parse::<u32>().expect("a number");
        assert!(size("linux/386") % 8 == 0 && size("linux/386") < size("linux/amd64"), "{user:?}");
    }
}

/// Calls by their numbers on x86-64 with arguments, and what comes of them: 0, or the error. Most
/// would fail without the filter, too, for want of a capability, but few of them with this error.
const CALLS: &[(&str, &str, u32)] = &[
    ("mount", "165, 0, 0, 0, 0, 0", EPERM),
    ("umount2", "166, 0, 0", EPERM),
    ("pivot_root", "155, 0, 0", EPERM),
    ("unshare, user", "272, 0x10000000", EPERM),
    ("unshare, nothing", "272, 0", EPERM),
    ("setns", "308, -1, 0", EPERM),
    ("clone, user", "56, 0x10000011, 0, 0, 0, 0", EPERM),
    ("clone, mounts", "56, 0x20011, 0, 0, 0, 0", EPERM),
    ("clone, cgroup", "56, 0x2000011, 0, 0, 0, 0", EPERM),
    ("clone3", "435, 0, 0", ENOSYS),
    ("open_tree", "428, -1, 0, 0", EPERM),
    ("move_mount", "429, -1, 0, -1, 0, 0", EPERM),
    ("fsopen", "430, 0, 0", EPERM),
    ("fsconfig", "431, -1, 0, 0, 0, 0", EPERM),
    ("fsmount", "432, -1, 0, 0", EPERM),
    ("fspick", "433, -1, 0, 0", EPERM),
    ("mount_setattr", "442, -1, 0, 0, 0, 0", EPERM),
    ("add_key", "248, 0, 0, 0, 0, 0", EPERM),
    ("request_key", "249, 0, 0, 0, 0", EPERM),
    ("keyctl", "250, 0, -3, 0", EPERM),
    ("bpf", "321, 0, 0, 0", EPERM),
    ("perf_event_open", "298, 0, 0, -1, -1, 0", EPERM),
    ("userfaultfd", "323, 1", EPERM),
    ("io_uring_setup", "425, 0, 0", EPERM),
    ("io_uring_enter", "426, -1, 0, 0, 0, 0", EPERM),
    ("io_uring_register", "427, -1, 0, 0, 0", EPERM),
    ("kexec_load", "246, 0, 0, 0, 0", EPERM),
    ("kexec_file_load", "320, -1, -1, 0, 0, 0", EPERM),
    ("init_module", "175, 0, 0, 0", EPERM),
    ("finit_module", "313, -1, 0, 0", EPERM),
    ("delete_module", "176, 0, 0", EPERM),
    ("reboot", "169, 0, 0, 0, 0", EPERM),
    ("swapon", "167, 0, 0", EPERM),
    ("swapoff", "168, 0", EPERM),
    ("acct", "163, 0", EPERM),
    ("quotactl", "179, 0, 0, 0, 0", EPERM),
    ("quotactl_fd", "443, -1, 0, 0, 0", EPERM),
    ("nfsservctl", "180, 0, 0, 0", EPERM),
    ("syslog", "103, 10, 0, 0", EPERM),
    ("sethostname", "170, 0, 0", EPERM),
    ("settimeofday", "164, 0, 0", EPERM),
    ("clock_settime", "227, 0, 0", EPERM),
    ("iopl", "172, 0", EPERM),
    ("ioperm", "173, 0, 0, 0", EPERM),
    ("vhangup", "153", EPERM),
    ("kcmp", "312, 1, 1, 9, 0, 0", EPERM),
    ("pidfd_getfd", "438, -1, 0, 0", EPERM),
    ("process_madvise", "440, -1, 0, 0, 0, 0", EPERM),
    ("open_by_handle_at", "304, -1, 0, 0", EPERM),
    ("lookup_dcookie", "212, 0, 0, 0", EPERM),
    ("fanotify_init", "300, 0, 0", EPERM),
    ("get_mempolicy", "239, 0, 0, 0, 0, 0", EPERM),
    ("mbind", "237, 0, 0, 0, 0, 0, 0", EPERM),
    ("move_pages", "279, 0, 0, 0, 0, 0, 0", EPERM),
    ("uselib", "134, 0", EPERM),
    ("ustat", "136, 0, 0", EPERM),
    ("socket, AF_ALG", "41, 38, 5, 0", EPERM),
    ("socket, AF_VSOCK", "41, 40, 1, 0", EPERM),
    ("socket, DECnet", "41, 12, 1, 0", EPERM),
    ("socket, AF_ALG in half", "41, 0x100000026, 5, 0", EPERM),
    ("personality, no random addresses", "135, 0x40000", EPERM),
    // Not in the list: another kernel's calls.
    ("a gap", "400", ENOSYS),
    ("a call of tomorrow", "1000", ENOSYS),
    ("x32", "0x40000027", ENOSYS),
    // Allowed.
    ("personality, question", "135, 0xffffffff", 0),
    ("personality, 32 bits", "135, 8", 0),
    ("personality, back", "135, 0", 0),
    ("socket, AF_UNIX", "41, 1, 1, 0", 0),
    ("socket, AF_INET6 or none", "41, 10, 2, 0", 0),
    ("socket, netlink", "41, 16, 3, 0", 0),
    ("no call", "-1", ENOSYS),
    ("ptrace", "101, 0, 0, 0, 0", 0),
    ("process_vm_readv", "310, -1, 0, 0, 0, 0, 0", 0),
    ("name_to_handle_at", "303, -100, 0, 0, 0, 0", EFAULT),
    ("seccomp, question", "317, 2, 0, 0", EFAULT),
    ("memfd_create", "319, 0, 0", EFAULT),
];

const EPERM: u32 = 1;
const EFAULT: u32 = 14;
const ENOSYS: u32 = 38;

#[test]
fn calls_end_as_documented() {
    let base = debian();
    for user in users() {
        let world = World::of(user);
        let context = world.context(
            "context",
            &format!(
                "FROM {base}\n\
                 COPY calls.pl /\n\
                 RUN perl /calls.pl > /of_root\n\
                 RUN cp /usr/bin/id /usr/bin/suid && chmod 4755 /usr/bin/suid\n\
                 USER nobody\n\
                 RUN perl /calls.pl > /tmp/of_nobody\n\
                 RUN suid -u > /tmp/suid && id -u >> /tmp/suid\n"
            ),
        );
        let mut script = String::new();
        for (name, arguments, _) in CALLS {
            // A clone that is allowed by mistake has to end.
            script.push_str(&format!(
                "$! = 0; $pid = $$; $r = syscall({arguments}); $e = $! + 0; exit if POSIX::getpid() != $pid; \
                 print \"{name}=\", ($r == -1 ? $e : 0), \"\\n\";\n"
            ));
        }
        world.write("context/calls.pl", format!("use POSIX ();\n$| = 1;\n{script}"));
        world
            .build()
            .args(["--platform", "linux/amd64", "-o", &layout(&world)])
            .arg(&context)
            .run()
            .success();
        let tree = Index::layout(&world.path("out/layout")).image("linux/amd64").tree();
        for file in ["/of_root", "/tmp/of_nobody"] {
            let wanted: String = CALLS.iter().map(|(name, _, error)| format!("{name}={error}\n")).collect();
            let found = tree.text(file);
            let differs: Vec<_> =
                found.lines().zip(wanted.lines()).filter(|(one, other)| one != other).collect();
            assert!(found == wanted, "{user:?} {file}: {differs:?}\n{found}");
        }
        // Set-user-id programs work: no_new_privs is not set.
        assert_eq!(tree.text("/tmp/suid"), "0\n65534\n", "{user:?}");
    }
}
