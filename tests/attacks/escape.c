// Tries to reach a folder of the host from inside a step of a build: escape FOLDER
//
// The folder holds a file `canary`, which anybody may read and write, and a listening socket
// `socket`. Each way that works is printed as `escaped: HOW`; the last line is `done`.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/io_uring.h>
#include <unistd.h>

static char canary[512], made[512], folder[512];

static void escaped(const char *how) { printf("escaped: %s\n", how); fflush(stdout); }

// A descriptor that must not be had.
static int leaked(const char *how, long fd) {
    char byte;
    if (fd < 0) return 0;
    if (read(fd, &byte, 1) == 1) escaped(how);
    close(fd);
    return 1;
}

static void reads(const char *how, const char *path) {
    char text[900];
    snprintf(text, sizeof text, "%s (%s)", how, path);
    leaked(text, open(path, O_RDONLY));
    leaked(text, open(path, O_RDWR | O_TRUNC));
}

// Runs one attack in a process of its own, since it changes the root or the working directory.
static void apart(void (*attack)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        attack();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

// The canary from wherever the working directory is, which may be outside of the root.
static void climbs(const char *how) {
    char up[1024] = "";
    for (int i = 0; i < 40; i++) strcat(up, "../");
    strcat(up, canary + 1);
    leaked(how, open(up, O_RDONLY));
}

static void names(void) {
    reads("name", canary);
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0};
    leaked("openat2", syscall(SYS_openat2, AT_FDCWD, canary, &how, sizeof how));
    climbs("parents");
    if (symlink(canary, "/way") == 0) reads("symbolic link", "/way");
    if (link(canary, "/hard") == 0) reads("hard link", "/hard");
    if (rename(canary, "/moved") == 0) escaped("rename");
    if (truncate(canary, 0) == 0) escaped("truncate");
    if (chmod(canary, 0) == 0) escaped("chmod");
    if (unlink(canary) == 0) escaped("unlink");
    if (mkdir(made, 0777) == 0) escaped("mkdir");
    if (mknod(made, S_IFIFO | 0666, 0) == 0) escaped("mknod");
    if (chdir(folder) == 0) escaped("chdir");
    struct stat data;
    if (stat(canary, &data) == 0) escaped("stat");
    if (access(canary, F_OK) == 0) escaped("access");
    execl(canary, canary, NULL);
    if (errno == EACCES || errno == ENOEXEC) escaped("execve");
}

static void processes(void) {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    static const char *const ways[] = {"root", "cwd", "task/%s/root"};
    while (proc && (entry = readdir(proc))) {
        if (!strchr("0123456789st", entry->d_name[0])) continue;
        for (int i = 0; i < 3; i++) {
            char way[300], path[900], up[1024] = "";
            snprintf(way, sizeof way, ways[i], entry->d_name);
            for (int j = 0; j < 20; j++) strcat(up, "/..");
            snprintf(path, sizeof path, "/proc/%s/%s%s", entry->d_name, way, canary);
            reads("process", path);
            snprintf(path, sizeof path, "/proc/%s/%s%.60s%s", entry->d_name, way, up, canary);
            reads("process", path);
        }
        for (int fd = 0; fd < 30; fd++) {
            char path[900];
            snprintf(path, sizeof path, "/proc/%s/fd/%d/../../../../../../../../..%s", entry->d_name, fd, canary);
            reads("descriptor of a process", path);
        }
    }
}

static void descriptors(void) {
    for (int fd = 3; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        // glibc and the shell open none that stay.
        char text[60];
        snprintf(text, sizeof text, "descriptor %d is open", fd);
        escaped(text);
        if (fchdir(fd) == 0) climbs("descriptor of a folder");
    }
}

// The root of one process moves below its working directory, which is then outside.
static void changed_root(void) {
    mkdir("/x", 0755);
    int old = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/x") != 0) return;
    climbs("chroot below the working directory");
    if (fchdir(old) == 0) climbs("chroot and an open descriptor");
    for (int i = 0; i < 40; i++) (void)!chdir("..");
    if (chroot(".") == 0) reads("chroot", canary);
}

static void namespaces(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
        changed_root();
        if (mount("/", "/x", NULL, MS_BIND | MS_REC, NULL) == 0) {
            char path[900];
            snprintf(path, sizeof path, "/x%s", canary);
            reads("mount", path);
        }
        umount2("/", MNT_DETACH);
        climbs("unmounted root");
    }
    for (int type = 0; type < 2; type++) {
        int space = open(type ? "/proc/1/ns/user" : "/proc/1/ns/mnt", O_RDONLY);
        if (space >= 0 && setns(space, 0) == 0) {
            escaped(type ? "setns user" : "setns mount");
            climbs("name space of process 1");
        }
    }
}

static void handles(void) {
    int mount_fd = open("/", O_RDONLY);
    for (uint32_t inode = 1; inode < 300; inode++) {
        struct { struct file_handle handle; uint32_t data[2]; } of = {{8, 1, {}}, {inode, 0}};
        int fd = syscall(SYS_open_by_handle_at, mount_fd, &of, O_RDONLY);
        if (fd >= 0 && fchdir(fd) == 0) {
            leaked("file handle", openat(fd, canary + 1, O_RDONLY));
            climbs("file handle");
        }
    }
}

static void debugger(void) {
    pid_t others[] = {1, 2, 3, getppid() - 1, getppid() - 2};
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++) {
        char text[80], name[64] = "";
        pid_t pid = others[i];
        snprintf(text, sizeof text, "/proc/%d/comm", pid);
        FILE *comm = fopen(text, "r");
        if (!comm) continue;
        (void)!fgets(name, sizeof name, comm);
        fclose(comm);
        // The shell of the step and this program are the step's own.
        if (!strncmp(name, "sh", 2) || !strncmp(name, "escape", 6)) continue;
        if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
            snprintf(text, sizeof text, "ptrace of process %d", pid);
            escaped(text);
            ptrace(PTRACE_DETACH, pid, 0, 0);
        }
        char byte;
        struct iovec mine = {&byte, 1}, its = {(void *)0x400000, 1};
        if (syscall(SYS_process_vm_readv, pid, &mine, 1, &its, 1, 0) == 1) escaped("process_vm_readv");
        snprintf(text, sizeof text, "/proc/%d/mem", pid);
        if (open(text, O_RDWR) >= 0) escaped(text);
        int process = syscall(SYS_pidfd_open, pid, 0);
        for (int fd = 0; process >= 0 && fd < 40; fd++)
            if (syscall(SYS_pidfd_getfd, process, fd, 0) >= 0) escaped("pidfd_getfd");
    }
}

static void other_doors(void) {
#ifdef __x86_64__
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long result;
    if (low != MAP_FAILED) {
        strcpy(low, canary);
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(5L), "b"(low), "c"(0L), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
        leaked("call of the i386 interface", (int)result);
    }
    leaked("call of the x32 interface", syscall(0x40000000 | 2, canary, O_RDONLY, 0));
#endif
}

// The kernel opens the file without a system call of that name.
static void ring(void) {
    struct io_uring_params params = {0};
    int fd = syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0) return;
    size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    int all = PROT_READ | PROT_WRITE;
    char *sq = mmap(NULL, sq_size, all, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, cq_size, all, MAP_SHARED, fd, IORING_OFF_CQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, 4 * sizeof *entry, all, MAP_SHARED, fd, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || entry == MAP_FAILED) return;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_OPENAT;
    entry->fd = AT_FDCWD;
    entry->addr = (uintptr_t)canary;
    *(uint32_t *)(sq + params.sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return;
    leaked("io_uring", ((struct io_uring_cqe *)(cq + params.cq_off.cqes))->res);
}

// Two names of the same length take turns while they are opened.
static char turn[512], harmless[512];
static volatile int stop;
static void *flips(void *unused) {
    (void)unused;
    while (!stop) {
        memcpy(turn, canary, sizeof turn);
        __asm__ volatile("" ::: "memory");
        memcpy(turn, harmless, sizeof turn);
        __asm__ volatile("" ::: "memory");
    }
    return NULL;
}
static void race(void) {
    pthread_t thread;
    memset(harmless, 0, sizeof harmless);
    memset(harmless, '/', strlen(canary));
    memcpy(turn, harmless, sizeof turn);
    if (pthread_create(&thread, NULL, flips, NULL) != 0) return;
    // The harmless name is the root, which opens, but gives no byte.
    for (int i = 0; i < 5000; i++) leaked("race", open(turn, O_RDONLY | O_NONBLOCK));
    stop = 1;
    pthread_join(thread, NULL);
}

static void sockets(void) {
    struct sockaddr_un address = {AF_UNIX, ""};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(stream, (struct sockaddr *)&address, sizeof address) == 0) escaped("socket of the host");
    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct iovec part = {"x", 1};
    struct msghdr message = {&address, sizeof address, &part, 1, NULL, 0, 0};
    if (sendmsg(datagram, &message, 0) >= 0 || errno == EPROTOTYPE) escaped("datagram to a socket of the host");
    snprintf(address.sun_path, sizeof address.sun_path, "%s/bound", folder);
    if (bind(datagram, (struct sockaddr *)&address, sizeof address) == 0) escaped("bind in a folder of the host");
}

int main(int count, char **words) {
    if (count != 2) return 2;
    snprintf(folder, sizeof folder, "%s", words[1]);
    snprintf(canary, sizeof canary, "%s/canary", words[1]);
    snprintf(made, sizeof made, "%s/made", words[1]);
    descriptors();
    void (*attacks[])(void) = {names, processes, changed_root, namespaces, handles, debugger, other_doors, ring, race, sockets};
    for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++) apart(attacks[i]);
    puts("done");
    return 0;
}
