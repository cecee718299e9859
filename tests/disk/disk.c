/* A disk for tests, loaded before libc: it logs what is done to the files below DISK_ROOT, and refuses what it is told to.
 *
 * DISK_LOG: every change is appended to it, in the order in which it happened, as a struct record and its bytes.
 * DISK_CONTROL: a struct control, shared with the test. What a program maps into its memory is not seen: of SQLite's
 * files that is only the index of the write-ahead log (-shm), which means nothing after a crash.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, OPEN, WRITE, TRUNCATE, SYNC, SYNC_FOLDER, UNLINK, RENAME, MKDIR };
enum { FDS = 1024, INODES = 4096 };

struct record {
    uint32_t op, file;
    int64_t at_ns, offset;
    uint32_t first, second; /* lengths of the bytes that follow: data, or one or two paths */
};

struct control {
    int64_t room;                                /* bytes that still fit when limited, then ENOSPC */
    int32_t limited, write_error, sync_error, open_error; /* errno; open_error is for opening to write */
};

static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { uint32_t file, folder; char path[512]; } fds[FDS];
static struct { uint64_t inode; uint32_t file; } inodes[INODES];
static uint32_t files;

#define REAL(result, name, ...) static result (*real_##name)(__VA_ARGS__)
REAL(int, open, const char *, int, ...);
REAL(int, close, int);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
REAL(int, ftruncate, int, off_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, unlink, const char *);
REAL(int, rename, const char *, const char *);
REAL(int, mkdir, const char *, mode_t);

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    const char *below = getenv("DISK_ROOT"), *log = getenv("DISK_LOG"), *shared = getenv("DISK_CONTROL");
    if (below) {
        strncpy(root, below, sizeof root - 1);
        root_length = strlen(root);
    }
    if (log)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (shared) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            control = memory == MAP_FAILED ? NULL : memory;
            syscall(SYS_close, fd);
        }
    }
}

static int below(const char *path) {
    return root_length && path && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

static int is_index(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static void put(uint32_t op, uint32_t file, int64_t offset, const void *a, size_t first, const void *b, size_t second) {
    if (log_fd < 0)
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record record = {op, file, now.tv_sec * 1000000000LL + now.tv_nsec, offset, (uint32_t)first, (uint32_t)second};
    char *whole = malloc(sizeof record + first + second);
    memcpy(whole, &record, sizeof record);
    if (first)
        memcpy(whole + sizeof record, a, first);
    if (second)
        memcpy(whole + sizeof record + first, b, second);
    syscall(SYS_write, log_fd, whole, sizeof record + first + second);
    free(whole);
}

static void put_path(uint32_t op, const char *a, const char *b) {
    put(op, 0, 0, a, strlen(a), b, b ? strlen(b) : 0);
}

static int refused(int error) {
    if (!control || !error)
        return 0;
    errno = error;
    return 1;
}

static uint32_t named(void) { return ((uint32_t)getpid() & 0xffff) << 16 | ++files; }

static uint32_t known(uint64_t inode, int is_new, const char *path) {
    int free = -1;
    for (int i = 0; i < INODES; i++) {
        if (inodes[i].file && inodes[i].inode == inode) {
            if (is_new)
                inodes[i].file = named();
            return inodes[i].file;
        }
        if (!inodes[i].file && free < 0)
            free = i;
    }
    if (free < 0)
        abort();
    inodes[free].inode = inode;
    inodes[free].file = named();
    if (!is_new)
        put(OPEN, inodes[free].file, 0, path, strlen(path), NULL, 0);
    return inodes[free].file;
}

static int opened(const char *path, int flags, mode_t mode) {
    if (!below(path))
        return real_open(path, flags, mode);
    if (control && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && refused(control->open_error))
        return -1;
    pthread_mutex_lock(&lock);
    struct stat found;
    int existed = stat(path, &found) == 0;
    int fd = real_open(path, flags, mode), error = errno;
    if (fd >= 0 && fd < FDS && fstat(fd, &found) == 0) {
        fds[fd].folder = S_ISDIR(found.st_mode);
        fds[fd].file = 0;
        strncpy(fds[fd].path, path, sizeof fds[fd].path - 1);
        if (!fds[fd].folder && !is_index(path)) {
            fds[fd].file = known(found.st_ino, !existed, path);
            if (!existed)
                put(CREATE, fds[fd].file, 0, path, strlen(path), NULL, 0);
            else if (flags & O_TRUNC)
                put(TRUNCATE, fds[fd].file, 0, NULL, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPENS(name)                                        \
    int name(const char *path, int flags, ...) {           \
        mode_t mode = 0;                                   \
        if (flags & (O_CREAT | __O_TMPFILE)) {             \
            va_list more;                                  \
            va_start(more, flags);                         \
            mode = va_arg(more, mode_t);                   \
            va_end(more);                                  \
        }                                                  \
        return opened(path, flags, mode);                  \
    }
OPENS(open)
OPENS(open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS)
        fds[fd].file = fds[fd].folder = 0;
    return real_close(fd);
}

/* How much of so many bytes may be written; -1 with errno where none. */
static ssize_t allowed(size_t count) {
    if (!control)
        return (ssize_t)count;
    if (refused(control->write_error))
        return -1;
    if (!control->limited)
        return (ssize_t)count;
    if (control->room <= 0) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t fits = control->room < (int64_t)count ? (ssize_t)control->room : (ssize_t)count;
    control->room -= fits;
    return fits;
}

static ssize_t written(int fd, const void *data, size_t count, off_t offset) {
    pthread_mutex_lock(&lock);
    ssize_t done = allowed(count);
    if (done > 0)
        done = real_pwrite(fd, data, (size_t)done, offset);
    int error = errno;
    if (done > 0)
        put(WRITE, fds[fd].file, offset, data, (size_t)done, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

static int is_followed(int fd) { return fd >= 0 && fd < FDS && fds[fd].file; }

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) {
    return is_followed(fd) ? written(fd, data, count, offset) : real_pwrite(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off_t offset) { return pwrite(fd, data, count, offset); }

ssize_t write(int fd, const void *data, size_t count) {
    if (!is_followed(fd))
        return real_write(fd, data, count);
    off_t offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = written(fd, data, count, offset);
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    return done;
}

int ftruncate(int fd, off_t size) {
    if (!is_followed(fd))
        return real_ftruncate(fd, size);
    if (control && refused(control->write_error))
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, size), error = errno;
    if (result == 0)
        put(TRUNCATE, fds[fd].file, size, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*real)(int)) {
    if (fd < 0 || fd >= FDS || !(fds[fd].file || fds[fd].folder))
        return real(fd);
    if (control && refused(control->sync_error))
        return -1;
    pthread_mutex_lock(&lock); /* the disk itself need not be waited for: what it holds is up to the test */
    if (fds[fd].folder)
        put_path(SYNC_FOLDER, fds[fd].path, NULL);
    else
        put(SYNC, fds[fd].file, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int unlink(const char *path) {
    if (!below(path))
        return real_unlink(path);
    if (control && refused(control->write_error == EROFS ? EROFS : 0))
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_unlink(path), error = errno;
    if (result == 0 && !is_index(path))
        put_path(UNLINK, path, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int rename(const char *from, const char *to) {
    if (!below(from))
        return real_rename(from, to);
    if (control && refused(control->write_error == EROFS ? EROFS : 0))
        return -1;
    pthread_mutex_lock(&lock);
    int result = real_rename(from, to), error = errno;
    if (result == 0 && !is_index(from))
        put_path(RENAME, from, to);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    if (!below(path))
        return real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    int result = real_mkdir(path, mode), error = errno;
    if (result == 0)
        put_path(MKDIR, path, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
