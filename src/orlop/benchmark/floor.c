/*
 * The kernel's floor: processes in namespaces of their own, with an overlay for their root.
 *
 *     floor LOWER SCRATCH PROGRAM [WORD...]
 *
 * Each line of input is one thing to do, by a letter, and has one line of output when it is done:
 *
 *     s        start PROGRAM and wait for its end; its output, and then "ended"
 *     o        start one that sleeps: its number
 *     e N      run `true` in number N, and wait for its end: "ended"
 *     f N M    start M that sleep, whose files are copies of those that N has written: the first's number
 *     r N      end number N: "ended"
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP,
    MOST = 100000, /* numbers */
};

static char *sleeping[] = {"/bin/sleep", "86400", NULL};
static char *doing_nothing[] = {"/bin/true", NULL};
static char *environment[] = {"PATH=/bin", NULL};
static char root[4096], upper[4096], work[4096], inner[4096];
static const char *lower, *scratch;
static pid_t pids[MOST];
static int own_pids; /* our namespace of processes */

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *options)
{
    check(mount(type, target, type, flags | MS_NOSUID, options), target);
}

static void child(char **words)
{
    char options[3 * 4096 + 64];

    check(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
    check(mount("overlay", root, "overlay", 0, options), "overlay");
    check(chdir(root), "chdir");
    mount_at("proc", "proc", MS_NODEV | MS_NOEXEC, NULL);
    mount_at("tmpfs", "dev", 0, "mode=755,size=65536k");
    check(mkdir("dev/pts", 0755) | mkdir("dev/shm", 01777) | mkdir("dev/mqueue", 0755), "mkdir");
    mount_at("devpts", "dev/pts", MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
    mount_at("tmpfs", "dev/shm", MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    mount_at("mqueue", "dev/mqueue", MS_NODEV | MS_NOEXEC, NULL);
    mount_at("sysfs", "sys", MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
    check(sethostname("floor", 5), "sethostname");
    check((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount2");
    execve(words[0], words, environment);
    check(-1, words[0]);
}

static void name_folders(long number)
{
    snprintf(upper, sizeof upper, "%s/upper-%ld", scratch, number);
    snprintf(work, sizeof work, "%s/work-%ld", scratch, number);
    snprintf(inner, sizeof inner, "%s/work-%ld/work", scratch, number);
}

static long prepare(void)
{
    static long next;

    if (next == MOST)
        next = 0; /* those of so long ago have ended */
    name_folders(next);
    check(mkdir(upper, 0755), upper);
    check(mkdir(work, 0755), work);
    return next++;
}

/* Returns at once, or with CLONE_VFORK when the program runs. */
static void start(long number, char **words, int how)
{
    pids[number] = (pid_t)syscall(SYS_clone, NAMESPACES | how | SIGCHLD, 0, 0, 0, 0);
    check(pids[number], "clone");
    if (pids[number] == 0)
        child(words);
}

static void await(pid_t pid)
{
    check(waitpid(pid, NULL, 0), "waitpid");
}

static void remove_folders(long number)
{
    struct dirent *entry;

    name_folders(number);
    rmdir(inner);
    rmdir(work);
    if (rmdir(upper) == 0)
        return;
    DIR *written = opendir(upper);
    check(written ? 0 : -1, upper);
    while ((entry = readdir(written)))
        unlinkat(dirfd(written), entry->d_name, 0);
    closedir(written);
    rmdir(upper);
}

static void execute(long number)
{
    int of = (int)syscall(SYS_pidfd_open, pids[number], 0);

    check(of, "pidfd_open");
    check(setns(of, CLONE_NEWPID), "setns"); /* of children to come */
    pid_t pid = vfork();
    if (pid == 0) {
        check(setns(of, NAMESPACES & ~CLONE_NEWPID), "setns");
        execve(doing_nothing[0], doing_nothing, environment);
        check(-1, doing_nothing[0]);
    }
    check(pid, "vfork");
    check(setns(own_pids, CLONE_NEWPID), "setns");
    await(pid);
    close(of);
}

/* The files of one folder, as those of the benchmark are, into the one that was prepared last. */
static void copy_files(const char *from)
{
    struct dirent *entry;
    struct stat found;
    DIR *written = opendir(from);

    check(written ? 0 : -1, from);
    int into = open(upper, O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(into, upper);
    while ((entry = readdir(written))) {
        check(fstatat(dirfd(written), entry->d_name, &found, AT_SYMLINK_NOFOLLOW), entry->d_name);
        if (!S_ISREG(found.st_mode))
            continue;
        int source = openat(dirfd(written), entry->d_name, O_RDONLY | O_CLOEXEC);
        int target = openat(into, entry->d_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, found.st_mode & 0777);
        check(source | target, entry->d_name);
        for (off_t left = found.st_size; left > 0;) {
            ssize_t count = sendfile(target, source, NULL, (size_t)left);
            check(count > 0 ? 0 : -1, entry->d_name);
            left -= count;
        }
        close(source);
        close(target);
    }
    closedir(written);
    close(into);
}

static long fork_all(long number, long count)
{
    char from[4096];
    long first = -1;

    snprintf(from, sizeof from, "%s/upper-%ld", scratch, number);
    for (long made = 0; made < count; made++) {
        long fork = prepare();
        if (made == 0)
            first = fork;
        copy_files(from);
        start(fork, sleeping, CLONE_VFORK);
    }
    return first;
}

static void end(long number)
{
    check(kill(pids[number], SIGKILL), "kill");
    await(pids[number]);
    remove_folders(number);
}

static void answer(long number)
{
    char text[32] = "ended\n";
    int length = number < 0 ? 6 : snprintf(text, sizeof text, "%ld\n", number);

    check((int)write(1, text, (size_t)length), "write");
}

static int read_line(char *line, size_t most)
{
    for (size_t length = 0; length < most - 1; length++) {
        if (read(0, line + length, 1) != 1)
            return 0;
        if (line[length] == '\n') {
            line[length] = 0;
            return 1;
        }
    }
    return 0;
}

static long obey(const char *line, char **program)
{
    long number = 0, count = 0;

    sscanf(line + 1, "%ld %ld", &number, &count);
    if (number < 0 || number >= MOST)
        _exit(2);
    switch (*line) {
    case 's':
        number = prepare();
        start(number, program, 0);
        await(pids[number]);
        remove_folders(number);
        return -1;
    case 'o':
        number = prepare();
        start(number, sleeping, CLONE_VFORK);
        return number;
    case 'e':
        execute(number);
        return -1;
    case 'f':
        return fork_all(number, count);
    case 'r':
        end(number);
        return -1;
    default:
        _exit(2);
    }
}

int main(int count, char **words)
{
    char line[64];

    if (count < 4)
        return 2;
    lower = words[1];
    scratch = words[2];
    snprintf(root, sizeof root, "%s/root", scratch);
    check(mkdir(root, 0755), root);
    own_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    check(own_pids, "pid namespace");
    while (read_line(line, sizeof line))
        answer(obey(line, words + 3));
    return 0;
}
