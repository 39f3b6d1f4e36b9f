/* Tries one forbidden thing a line and prints its name and the error number that came back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long status) {
    printf("%s %d\n", name, status < 0 ? errno : 0);
    fflush(stdout);
}

static struct sockaddr_un abstract_name(const char *name, socklen_t *length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    memcpy(address.sun_path + 1, name, size);
    *length = offsetof(struct sockaddr_un, sun_path) + 1 + size;
    return address;
}

/* Runs a program to which the kernel seems to give no namespaces: `error` comes of asking for one. */
static int without_namespaces(int error, char **program) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x10000000 /* CLONE_NEWUSER */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 1;
    execv(program[0], program);
    return 1;
}

static void calls(void) {
    int fd = open("/build/file", O_CREAT | O_RDWR, 0644);
    uint64_t how[3] = {O_CREAT | O_WRONLY, 04755, 0};
    uint64_t args[2] = {0, 0};
    char pad[128] = {0};
    say("chmod", chmod("/build/file", 04755));
    say("fchmod", fchmod(fd, 02755));
    say("fchmodat", fchmodat(AT_FDCWD, "/build/file", 06755, 0));
    say("fchmodat2", syscall(452, AT_FDCWD, "/build/file", 04755, 0));
    say("open", open("/build/a", O_CREAT | O_WRONLY, 04755));
    say("creat", creat("/build/b", 04755));
    say("mknod", mknod("/build/c", S_IFREG | 04755, 0));
    say("mknodat", mknodat(AT_FDCWD, "/build/d", S_IFREG | 02755, 0));
    say("tmpfile", open("/build", O_TMPFILE | O_WRONLY, 04755));
    say("openat2", syscall(437, AT_FDCWD, "/build/e", how, sizeof how));
    say("io_uring_setup", syscall(425, 8, pad));
    say("setxattr", syscall(SYS_setxattr, "/build/file", "user.x", "y", 1, 0));
    say("lsetxattr", syscall(SYS_lsetxattr, "/build/file", "user.x", "y", 1, 0));
    say("fsetxattr", syscall(SYS_fsetxattr, fd, "user.x", "y", 1, 0));
    say("setxattrat", syscall(463, AT_FDCWD, "/build/file", 0, "user.x", args, sizeof args));
    say("bpf", syscall(SYS_bpf, 0, pad, sizeof pad));
    say("perf_event_open", syscall(SYS_perf_event_open, pad, 0, -1, -1, 0));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, pad, 0));
    say("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    say("add_key", syscall(SYS_add_key, "user", "ampoule", "x", 1, -3));
    say("request_key", syscall(SYS_request_key, "user", "ampoule", 0, 0));
    say("vsock", socket(40, SOCK_STREAM, 0));
    say("packet", socket(AF_PACKET, SOCK_RAW, 0));
    say("alg", socket(38, SOCK_SEQPACKET, 0));
    say("raw", socket(AF_INET, SOCK_RAW, 1));
    say("bluetooth", socket(31, SOCK_RAW, 1));
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("inet", socket(AF_INET, SOCK_STREAM, 0));
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    int pair[2];
    say("tipc-pair", socketpair(30, SOCK_STREAM, 0, pair));
    say("unix-pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    say("netfilter", socket(AF_NETLINK, SOCK_RAW, 12));
    say("generic", socket(AF_NETLINK, SOCK_RAW, 16));
    say("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0));
    say("umount", syscall(SYS_umount2, "/proc", 2));
    say("pivot_root", syscall(SYS_pivot_root, "/build", "/build"));
    say("open_tree", syscall(428, AT_FDCWD, "/build", 1));
    say("move_mount", syscall(429, fd, "", AT_FDCWD, "/tmp", 4));
    say("fsopen", syscall(430, "tmpfs", 0));
    say("fsconfig", syscall(431, fd, 6, 0, 0, 0));
    say("fsmount", syscall(432, fd, 0, 0));
    say("fspick", syscall(433, AT_FDCWD, "/build", 0));
    say("mount_setattr", syscall(442, AT_FDCWD, "/build", 0, args, sizeof args));
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    say("terminal", terminal);
    say("tiocsti", ioctl(terminal, TIOCSTI, "x"));
    say("controlling", open("/dev/tty", O_RDWR));
    say("ptrace-init", ptrace(PTRACE_ATTACH, 1, 0, 0));
    say("setgid", setgid(0));
    say("setuid", setuid(0));
    say("future", syscall(600));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "calls")) {
        calls();
    } else if (!strcmp(what, "abstract")) {
        socklen_t length;
        struct sockaddr_un address = abstract_name(argv[2], &length);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        say("connect", connect(fd, (struct sockaddr *)&address, length));
    } else if (!strcmp(what, "bind")) {
        socklen_t length;
        struct sockaddr_un address = abstract_name(argv[2], &length);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        say("bind", bind(fd, (struct sockaddr *)&address, length));
        sleep(1);
#ifdef __x86_64__
    } else if (!strcmp(what, "int80")) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
        printf("survived %ld\n", result);
    } else if (!strcmp(what, "x32")) {
        printf("survived %ld\n", syscall(0x40000000 | SYS_getpid));
#endif
    } else if (!strcmp(what, "late")) {
        /* A daemon that goes on after its parent, deaf to what can be ignored. */
        if (fork() == 0) {
            setsid();
            for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, 0);
            if (fork() == 0) {
                for (;;) {
                    int fd = open(argv[2], O_WRONLY | O_APPEND | O_CREAT, 0644);
                    if (fd >= 0) { if (write(fd, "late\n", 5) < 0) return 1; close(fd); }
                    usleep(1000);
                }
            }
            _exit(0);
        }
        usleep(20000);
    } else if (!strcmp(what, "without-namespaces")) {
        return without_namespaces(atoi(argv[2]), argv + 3);
    } else if (!strcmp(what, "deep")) {
        if (mkdir(argv[2], 0755) || chdir(argv[2])) return 1;
        for (int i = 1; i < atoi(argv[3]); i++)
            if (mkdir("d", 0755) || chdir("d")) return 1;
    } else if (!strcmp(what, "socket")) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        strncpy(name.sun_path, argv[2], sizeof name.sun_path - 1);
        return bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name) != 0;
    } else if (!strcmp(what, "orphans")) {
        for (int i = 0; i < 20; i++) {
            if (fork() == 0) { if (fork() == 0) _exit(0); _exit(0); }
        }
        while (wait(0) > 0) {}
        usleep(200000);
    } else if (!strcmp(what, "memory")) {
        size_t total = 0;
        for (;;) {
            char *block = malloc(1 << 26);
            if (!block) break;
            total += 1 << 26;
            if (total > ((size_t)100 << 30)) break;
        }
        printf("%zu\n", total >> 30);
    }
    return 0;
}
