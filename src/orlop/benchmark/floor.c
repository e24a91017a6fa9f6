/*
 * The kernel's floor: for each line of input, one process in namespaces of its own, with an overlay
 * for its root, until its end. Its output is ours; then we write "ended".
 *
 *     floor LOWER SCRATCH PROGRAM [WORD...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP };

static char root[4096], upper[4096], work[4096], inner[4096];

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

static void child(const char *lower, char **words)
{
    char options[3 * 4096 + 64];
    char *environment[] = {"PATH=/bin", NULL};

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

static void prepare(const char *scratch, long number)
{
    snprintf(upper, sizeof upper, "%s/upper-%ld", scratch, number);
    snprintf(work, sizeof work, "%s/work-%ld", scratch, number);
    snprintf(inner, sizeof inner, "%s/work-%ld/work", scratch, number);
    check(mkdir(upper, 0755), upper);
    check(mkdir(work, 0755), work);
}

int main(int count, char **words)
{
    char line;

    if (count < 4)
        return 2;
    snprintf(root, sizeof root, "%s/root", words[2]);
    check(mkdir(root, 0755), root);
    for (long number = 0; read(0, &line, 1) == 1; number++) {
        prepare(words[2], number);
        long pid = syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
        check((int)pid, "clone");
        if (pid == 0)
            child(words[1], words + 3);
        int status;
        check(waitpid((pid_t)pid, &status, 0), "waitpid");
        rmdir(inner);
        rmdir(work);
        rmdir(upper);
        check((int)write(1, "ended\n", 6), "write");
    }
    return 0;
}
