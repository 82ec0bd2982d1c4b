/* Faults at the n-th file operation of a process: a library for LD_PRELOAD, see injector.py.

   It stands before the C library's calls that change files below some folders, counts and logs them, and at the n-th
   kills the process, or lets the call fail as on a full, broken or read-only disk. Rust and C++ come through here, too;
   programs that make system calls themselves do not. What fails is what would: a full disk still removes and renames. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, TEAR, SPACE, IO, READONLY };       /* what happens */
enum { CHANGES = 1, GROWS = 2, WRITES = 4 };          /* what a call does: any change, one that needs room, bytes */
static const char *const KINDS[] = {"count", "kill", "tear", "space", "io", "readonly"};

static int kind, children, log_fd = -1;
static pid_t armed;
static long first, own_count, *count = &own_count;
static char folders[16][PATH_MAX];

/* Reads the environment; called when the library is loaded, and again by a fork that was started without a fault. */
void filefaults_start(void) {
    const char *name = getenv("FILEFAULTS_KIND"), *log = getenv("FILEFAULTS_LOG"), *at = getenv("FILEFAULTS_AT");
    if (!name || !log) return;
    for (kind = READONLY; kind > NONE && strcmp(name, KINDS[kind]); kind--) {}
    char list[PATH_MAX * 4] = "", *rest = list;
    strncpy(list, getenv("FILEFAULTS_FOLDERS") ? getenv("FILEFAULTS_FOLDERS") : "", sizeof list - 1);
    for (int i = 0; i < 16; i++) folders[i][0] = 0;
    for (int i = 0; i < 16 && rest;) {
        char *folder = strsep(&rest, ":");
        if (*folder && realpath(folder, folders[i])) i++;
    }
    first = at ? atol(at) : 0;
    children = getenv("FILEFAULTS_CHILDREN") != NULL;
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, fd);
    char counter[PATH_MAX];
    snprintf(counter, sizeof counter, "%s.count", log);
    fd = syscall(SYS_openat, AT_FDCWD, counter, O_RDWR | O_CREAT, 0644);
    if (children && syscall(SYS_ftruncate, fd, sizeof *count) == 0) /* one count of all processes */
        count = (long *)syscall(SYS_mmap, NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    armed = getpid();
    if (!children) unsetenv("FILEFAULTS_KIND");
}

__attribute__((constructor)) static void loaded(void) { filefaults_start(); }

static int path_of_fd(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static int path_at(int dir, const char *name, char *out) {
    char base[PATH_MAX] = "";
    if (!name) return 0;
    if (name[0] != '/' && !(dir == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of_fd(dir, base))) return 0;
    return snprintf(out, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", name) < PATH_MAX;
}

/* Counts a call on a path below the folders; 0 to go on, else the errno it fails with. -1: half a write, then death. */
static int fault(const char *call, const char *path, int does) {
    if (!armed || (!children && getpid() != armed)) return 0;
    int inside = 0;
    for (int i = 0; i < 16 && folders[i][0] && !inside; i++) {
        size_t length = strlen(folders[i]);
        inside = !strncmp(path, folders[i], length) && (path[length] == '/' || !path[length]);
    }
    if (!inside || (kind == TEAR && !(does & WRITES))) return 0;
    long n = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", n, call, path);
    syscall(SYS_write, log_fd, line, length);
    if (!first || n < first || (n > first && kind == IO)) return 0;
    if (kind == KILL) syscall(SYS_kill, getpid(), SIGKILL);
    if (kind == TEAR) return -1;
    if (kind == SPACE) return does & GROWS ? ENOSPC : 0;
    return kind == IO ? EIO : kind == READONLY ? EROFS : 0;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);
#define FAIL(value, error) { int failure = (error); if (failure > 0) { errno = failure; return value; } }

static int opening(const char *call, int dir, const char *name, int flags) {
    char path[PATH_MAX];
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) || !path_at(dir, name, path)) return 0;
    struct stat found;
    int new = (flags & O_TMPFILE) == O_TMPFILE || syscall(SYS_newfstatat, dir, name, &found, 0) != 0;
    return fault(call, path, CHANGES | ((flags & O_CREAT) && new ? GROWS : 0));
}
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); }
#define OPEN(name) int name(const char *path, int flags, ...) { \
    MODE(flags) REAL(int, name, const char *, int, ...) \
    FAIL(-1, opening("open", AT_FDCWD, path, flags)) return real(path, flags, mode); }
#define OPENAT(name) int name(int dir, const char *path, int flags, ...) { \
    MODE(flags) REAL(int, name, int, const char *, int, ...) \
    FAIL(-1, opening("open", dir, path, flags)) return real(dir, path, flags, mode); }
#define CREAT(name) int name(const char *path, mode_t mode) { REAL(int, name, const char *, mode_t) \
    FAIL(-1, opening("open", AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC)) return real(path, mode); }
#define FOPEN(name) FILE *name(const char *path, const char *mode) { REAL(FILE *, name, const char *, const char *) \
    int flags = mode[0] == 'r' ? (strchr(mode, '+') ? O_RDWR : 0) : O_WRONLY | O_CREAT; \
    FAIL(NULL, opening("open", AT_FDCWD, path, flags)) return real(path, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64) CREAT(creat) CREAT(creat64) FOPEN(fopen) FOPEN(fopen64)

static int on_fd(const char *call, int fd, int does) {
    char path[PATH_MAX];
    return armed && fd != log_fd && path_of_fd(fd, path) ? fault(call, path, CHANGES | does) : 0;
}
#define DIE syscall(SYS_kill, getpid(), SIGKILL)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t)
    int why = on_fd("write", fd, GROWS | WRITES);
    if (why < 0) { real(fd, data, size / 2); DIE; }
    FAIL(-1, why) return real(fd, data, size);
}
#define PWRITE(name, offset_t) ssize_t name(int fd, const void *data, size_t size, offset_t at) { \
    REAL(ssize_t, name, int, const void *, size_t, offset_t) \
    int why = on_fd("write", fd, GROWS | WRITES); \
    if (why < 0) { real(fd, data, size / 2, at); DIE; } \
    FAIL(-1, why) return real(fd, data, size, at); }
PWRITE(pwrite, off_t) PWRITE(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *data, int parts) {
    REAL(ssize_t, writev, int, const struct iovec *, int)
    int why = on_fd("write", fd, GROWS | WRITES);
    if (why < 0) { syscall(SYS_write, fd, data[0].iov_base, data[0].iov_len / 2); DIE; }
    FAIL(-1, why) return real(fd, data, parts);
}
#define SENDFILE(name, offset_t) ssize_t name(int to, int from, offset_t *at, size_t size) { \
    REAL(ssize_t, name, int, int, offset_t *, size_t) \
    int why = on_fd("write", to, GROWS | WRITES); \
    struct stat found; \
    if (why < 0) { real(to, from, at, fstat(from, &found) ? 0 : found.st_size / 2); DIE; } \
    FAIL(-1, why) return real(to, from, at, size); }
SENDFILE(sendfile, off_t) SENDFILE(sendfile64, off64_t)
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)
    int why = on_fd("write", to, GROWS | WRITES);
    if (why < 0) { real(from, at, to, to_at, size / 2, flags); DIE; }
    FAIL(-1, why) return real(from, at, to, to_at, size, flags);
}

#define ON_FD(name, list, ...) int name list { REAL(int, name, __VA_ARGS__)
ON_FD(ftruncate, (int fd, off_t size), int, off_t) FAIL(-1, on_fd("truncate", fd, GROWS)) return real(fd, size); }
ON_FD(ftruncate64, (int fd, off64_t size), int, off64_t) FAIL(-1, on_fd("truncate", fd, GROWS)) return real(fd, size); }
ON_FD(fsync, (int fd), int) FAIL(-1, on_fd("sync", fd, 0)) return real(fd); }
ON_FD(fdatasync, (int fd), int) FAIL(-1, on_fd("sync", fd, 0)) return real(fd); }
ON_FD(fallocate, (int fd, int mode, off_t at, off_t size), int, int, off_t, off_t)
    FAIL(-1, on_fd("allocate", fd, GROWS)) return real(fd, mode, at, size); }
ON_FD(posix_fallocate, (int fd, off_t at, off_t size), int, off_t, off_t)
    int why = on_fd("allocate", fd, GROWS); return why > 0 ? why : real(fd, at, size); }
ON_FD(posix_fallocate64, (int fd, off64_t at, off64_t size), int, off64_t, off64_t)
    int why = on_fd("allocate", fd, GROWS); return why > 0 ? why : real(fd, at, size); }

#define ON_PATH(name, call, does, dir, path, list, ...) int name list { REAL(int, name, __VA_ARGS__) \
    char full[PATH_MAX]; FAIL(-1, path_at(dir, path, full) ? fault(call, full, CHANGES | (does)) : 0)
ON_PATH(truncate, "truncate", GROWS, AT_FDCWD, path, (const char *path, off_t size), const char *, off_t) return real(path, size); }
ON_PATH(truncate64, "truncate", GROWS, AT_FDCWD, path, (const char *path, off64_t size), const char *, off64_t) return real(path, size); }
ON_PATH(unlink, "unlink", 0, AT_FDCWD, path, (const char *path), const char *) return real(path); }
ON_PATH(remove, "unlink", 0, AT_FDCWD, path, (const char *path), const char *) return real(path); }
ON_PATH(unlinkat, "unlink", 0, dir, path, (int dir, const char *path, int flags), int, const char *, int) return real(dir, path, flags); }
ON_PATH(rmdir, "rmdir", 0, AT_FDCWD, path, (const char *path), const char *) return real(path); }
ON_PATH(mkdir, "mkdir", GROWS, AT_FDCWD, path, (const char *path, mode_t mode), const char *, mode_t) return real(path, mode); }
ON_PATH(mkdirat, "mkdir", GROWS, dir, path, (int dir, const char *path, mode_t mode), int, const char *, mode_t) return real(dir, path, mode); }
ON_PATH(rename, "rename", 0, AT_FDCWD, to, (const char *from, const char *to), const char *, const char *) return real(from, to); }
ON_PATH(renameat, "rename", 0, dir, to, (int from_dir, const char *from, int dir, const char *to), int, const char *, int, const char *) return real(from_dir, from, dir, to); }
ON_PATH(renameat2, "rename", 0, dir, to, (int from_dir, const char *from, int dir, const char *to, unsigned flags), int, const char *, int, const char *, unsigned) return real(from_dir, from, dir, to, flags); }
ON_PATH(link, "link", GROWS, AT_FDCWD, to, (const char *from, const char *to), const char *, const char *) return real(from, to); }
ON_PATH(symlink, "link", GROWS, AT_FDCWD, to, (const char *from, const char *to), const char *, const char *) return real(from, to); }

/* A shared mapping of a file with holes gets its room page by page: on a full disk the program dies of SIGBUS at the
   first hole, as it does here in a mapping of an empty file. */
#define MMAP(name, offset_t) void *name(void *where, size_t size, int access, int flags, int fd, offset_t at) { \
    REAL(void *, name, void *, size_t, int, int, int, offset_t) \
    struct stat found; \
    if (fd >= 0 && (access & PROT_WRITE) && (flags & MAP_SHARED) && !fstat(fd, &found) \
        && found.st_blocks * 512 < found.st_size && on_fd("map", fd, GROWS) == ENOSPC) { \
        int empty = memfd_create("full disk", MFD_CLOEXEC); \
        return real(where, size, access, flags, empty, 0); } \
    return real(where, size, access, flags, fd, at); }
MMAP(mmap, off_t) MMAP(mmap64, off64_t)
