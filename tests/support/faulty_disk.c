/* A disk that fails on demand, for LD_PRELOAD. The test writes the control file while the proxy runs:
 *
 *     struct control { int fsync_at, fsync_error, fsync_sleep_ms, write_error, fsyncs; }
 *
 * fsync_at: the number of the fsync that fails, counted by us in `fsyncs` (0: none, -1: every one); fsync_error: how.
 * write_error: how everything fails that changes something. Both only below the folder PIXIE_FAULTY_UNDER.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct control { int fsync_at, fsync_error, fsync_sleep_ms, write_error, fsyncs; };

static struct control *control;
static const char *under;

__attribute__((constructor)) static void begin(void) {
    static int (*real_open)(const char *, int, ...);
    real_open = dlsym(RTLD_NEXT, "open");
    under = getenv("PIXIE_FAULTY_UNDER");
    const char *path = getenv("PIXIE_FAULTY_CONTROL");
    int file = path == NULL || under == NULL ? -1 : real_open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    control = found == MAP_FAILED ? NULL : found;
    close(file);
}

static int is_path(const char *path) {
    return control != NULL && path != NULL && strncmp(path, under, strlen(under)) == 0;
}

static int is_file(int file) {
    char name[64], path[PATH_MAX];
    if (control == NULL) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    return is_path(path);
}

static int fails(int is_ours) {
    if (control == NULL || control->write_error == 0 || !is_ours) return 0;
    errno = control->write_error;
    return 1;
}

#define REAL(name) static __typeof__(name) *real; if (real == NULL) real = dlsym(RTLD_NEXT, #name)

static int sync_fails(int file) {
    if (control == NULL || !is_file(file)) return 0;
    int number = __sync_add_and_fetch(&control->fsyncs, 1);
    if (control->fsync_sleep_ms > 0) usleep(control->fsync_sleep_ms * 1000);
    if (control->fsync_at != -1 && control->fsync_at != number) return 0;
    errno = control->fsync_error;
    return 1;
}

int fsync(int file) { REAL(fsync); return sync_fails(file) ? -1 : real(file); }
int fdatasync(int file) { REAL(fdatasync); return sync_fails(file) ? -1 : real(file); }

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    return control != NULL && control->write_error != 0 && fails(is_file(file)) ? -1 : real(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return control != NULL && control->write_error != 0 && fails(is_file(file)) ? -1 : real(file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return control != NULL && control->write_error != 0 && fails(is_file(file)) ? -1 : real(file, data, size, at);
}
int ftruncate(int file, off_t size) { REAL(ftruncate); return fails(is_file(file)) ? -1 : real(file, size); }
int ftruncate64(int file, off64_t size) { REAL(ftruncate64); return fails(is_file(file)) ? -1 : real(file, size); }
int posix_fallocate(int file, off_t at, off_t size) {
    REAL(posix_fallocate);
    return fails(is_file(file)) ? control->write_error : real(file, at, size);
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    return fails(is_file(file)) ? control->write_error : real(file, at, size);
}

#define OPEN(name)                                                                  \
    int name(const char *path, int flags, ...) {                                    \
        REAL(name);                                                                 \
        mode_t mode = 0;                                                            \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                      \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        }                                                                           \
        return fails((flags & O_CREAT) && is_path(path)) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) { REAL(mkdir); return fails(is_path(path)) ? -1 : real(path, mode); }
int rename(const char *from, const char *to) { REAL(rename); return fails(is_path(to)) ? -1 : real(from, to); }
int unlink(const char *path) { REAL(unlink); return fails(is_path(path)) ? -1 : real(path); }
int rmdir(const char *path) { REAL(rmdir); return fails(is_path(path)) ? -1 : real(path); }
