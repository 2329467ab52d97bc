/* Stands between the process and its disk (LD_PRELOAD): writes short, or kills with SIGKILL at one operation.
 *
 * SHIM_WRITE_BYTES_MAX=n   a write takes at most n bytes at once
 * SHIM_KILL_AT=n           the n-th operation that changes the disk, counted from 1, is the last
 * SHIM_KILL=before|half|after   whether it took effect; half of a sync or a rename is none of it
 *
 * At the end the number of operations and of shortened writes goes to standard error.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long operations, shortened;

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int dies(const char *how) {
    const char *chosen = getenv("SHIM_KILL");
    return operations == number("SHIM_KILL_AT") && chosen && !strcmp(chosen, how);
}

static void die(void) { kill(getpid(), SIGKILL); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPERATION(call)                                                                                     \
    __atomic_add_fetch(&operations, 1, __ATOMIC_SEQ_CST);                                                   \
    if (dies("before") || dies("half")) die();                                                              \
    __typeof__(call) done = call;                                                                           \
    if (dies("after")) die();                                                                               \
    return done

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    __atomic_add_fetch(&operations, 1, __ATOMIC_SEQ_CST);
    size_t most = number("SHIM_WRITE_BYTES_MAX");
    if (most && count > most) {
        __atomic_add_fetch(&shortened, 1, __ATOMIC_SEQ_CST);
        count = most;
    }
    if (dies("before")) die();
    if (dies("half")) {
        REAL(pwrite64)(file, bytes, count / 2 / 4096 * 4096, offset);
        die();
    }
    ssize_t done = REAL(pwrite64)(file, bytes, count, offset);
    if (dies("after")) die();
    return done;
}

int fdatasync(int file) { OPERATION(REAL(fdatasync)(file)); }
int fsync(int file) { OPERATION(REAL(fsync)(file)); }
int rename(const char *from, const char *to) { OPERATION(REAL(rename)(from, to)); }
int unlink(const char *name) { OPERATION(REAL(unlink)(name)); }

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "operations %ld, shortened %ld\n", operations, shortened);
}
