/* Moves the wall clock of a process: preload it, and write nanoseconds into the file that
 * CLOCK_OFFSET_FILE names. Monotonic clocks stay as they are, as when an administrator or NTP
 * steps the time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_ns;

__attribute__((constructor)) static void map_offset(void) {
  const char *path = getenv("CLOCK_OFFSET_FILE");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *found = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
  if (found != MAP_FAILED) offset_ns = found;
  close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
  long failed = syscall(SYS_clock_gettime, id, at);
  if (failed || !offset_ns || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
    return (int)failed;
  long long now = at->tv_sec * 1000000000LL + at->tv_nsec + *offset_ns;
  at->tv_sec = now / 1000000000LL;
  at->tv_nsec = now % 1000000000LL;
  return 0;
}

int gettimeofday(struct timeval *at, void *zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
