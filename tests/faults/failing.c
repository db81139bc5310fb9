/* For LD_PRELOAD: of the calls that change what is below a folder, one fails, or all from one on. Other calls go through.

   Counted are those of this process, between `failing_begin` and `failing_end`, in whatever library they are made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t length;
static long at, calls;
static int with, forever, removing, active;
static char failed[PATH_MAX + 64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define BELOW(base, path) below(base, path, (char[2 * PATH_MAX]){0})
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Count the calls below the folder `name` from now on; number `number` fails with `error`, and all later ones where `later`.
   Those that remove something are among them where `removals`: a full disk lets them through. */
void failing_begin(const char *name, long number, int error, int later, int removals) {
  length = snprintf(folder, sizeof folder, "%s", name);
  at = number, with = error, forever = later, removing = removals, calls = 0, failed[0] = 0, active = 1;
}

/* Let everything through again; returns how many calls there were. */
long failing_end(void) {
  active = 0;
  return calls;
}

/* The call that failed first: its name and the path. */
const char *failing_call(void) { return failed; }

static const char *descriptor_path(int descriptor, char *into) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t size = readlink(link, into, PATH_MAX - 1);
  into[size < 0 ? 0 : size] = 0;
  return into;
}

/* A path, relative to an open folder as it may be, as a whole one. */
static const char *below(int base, const char *path, char *into) {
  if (path[0] == '/') return path;
  if (base == AT_FDCWD) {
    if (getcwd(into, PATH_MAX) == NULL) into[0] = 0;
  } else {
    descriptor_path(base, into);
  }
  size_t used = strlen(into);
  snprintf(into + used, 2 * PATH_MAX - used, "/%s", path);
  return into;
}

static int fails(const char *name, const char *path) {
  if (!active || strncmp(path, folder, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
  if (!removing && strcmp(name, "remove") == 0) return 0;
  pthread_mutex_lock(&lock);
  long number = ++calls;
  int now = number == at || (forever && at > 0 && number > at);
  if (now && failed[0] == 0) snprintf(failed, sizeof failed, "%s %s", name, path[length] == 0 ? "." : path + length + 1);
  pthread_mutex_unlock(&lock);
  if (now) errno = with;
  return now;
}

/* Files that are open for writing, and folders that are made durable. */
static int fails_on(const char *name, int descriptor) {
  if (!active) return 0;
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || ((flags & O_ACCMODE) == O_RDONLY && strcmp(name, "fsync") != 0)) return 0;
  char path[PATH_MAX];
  return fails(name, descriptor_path(descriptor, path));
}

#define OPENING                                                      \
  mode_t mode = 0;                                                   \
  if (flags & (O_CREAT | O_TMPFILE)) {                               \
    va_list rest;                                                    \
    va_start(rest, flags);                                           \
    mode = va_arg(rest, mode_t);                                     \
    va_end(rest);                                                    \
  }                                                                  \
  int writing = (flags & O_ACCMODE) != O_RDONLY

int open(const char *path, int flags, ...) {
  OPENING;
  return writing && fails("open", BELOW(AT_FDCWD, path)) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  OPENING;
  return writing && fails("open", BELOW(AT_FDCWD, path)) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int base, const char *path, int flags, ...) {
  OPENING;
  return writing && fails("open", BELOW(base, path)) ? -1 : REAL(openat)(base, path, flags, mode);
}
int openat64(int base, const char *path, int flags, ...) {
  OPENING;
  return writing && fails("open", BELOW(base, path)) ? -1 : REAL(openat64)(base, path, flags, mode);
}

ssize_t write(int descriptor, const void *content, size_t size) {
  return fails_on("write", descriptor) ? -1 : REAL(write)(descriptor, content, size);
}
ssize_t pwrite(int descriptor, const void *content, size_t size, off_t offset) {
  return fails_on("write", descriptor) ? -1 : REAL(pwrite)(descriptor, content, size, offset);
}
ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t offset) {
  return fails_on("write", descriptor) ? -1 : REAL(pwrite64)(descriptor, content, size, offset);
}
int ftruncate(int descriptor, off_t size) { return fails_on("truncate", descriptor) ? -1 : REAL(ftruncate)(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) {
  return fails_on("truncate", descriptor) ? -1 : REAL(ftruncate64)(descriptor, size);
}

/* these return the error */
int posix_fallocate(int descriptor, off_t offset, off_t size) {
  return fails_on("allocate", descriptor) ? with : REAL(posix_fallocate)(descriptor, offset, size);
}
int posix_fallocate64(int descriptor, off64_t offset, off64_t size) {
  return fails_on("allocate", descriptor) ? with : REAL(posix_fallocate64)(descriptor, offset, size);
}

int fsync(int descriptor) { return fails_on("fsync", descriptor) ? -1 : REAL(fsync)(descriptor); }
int fdatasync(int descriptor) { return fails_on("fsync", descriptor) ? -1 : REAL(fdatasync)(descriptor); }

/* as on NFS, which writes when a file is closed */
int close(int descriptor) {
  int now = fails_on("close", descriptor), kept = errno, done = REAL(close)(descriptor);
  if (now) errno = kept;
  return now ? -1 : done;
}

int rename(const char *from, const char *to) { return fails("rename", BELOW(AT_FDCWD, to)) ? -1 : REAL(rename)(from, to); }
int renameat(int old, const char *from, int base, const char *to) {
  return fails("rename", BELOW(base, to)) ? -1 : REAL(renameat)(old, from, base, to);
}
int mkdir(const char *path, mode_t mode) { return fails("mkdir", BELOW(AT_FDCWD, path)) ? -1 : REAL(mkdir)(path, mode); }
int mkdirat(int base, const char *path, mode_t mode) {
  return fails("mkdir", BELOW(base, path)) ? -1 : REAL(mkdirat)(base, path, mode);
}
int unlink(const char *path) { return fails("remove", BELOW(AT_FDCWD, path)) ? -1 : REAL(unlink)(path); }
int unlinkat(int base, const char *path, int flags) {
  return fails("remove", BELOW(base, path)) ? -1 : REAL(unlinkat)(base, path, flags);
}
int rmdir(const char *path) { return fails("remove", BELOW(AT_FDCWD, path)) ? -1 : REAL(rmdir)(path); }
