/* The time of day of one host, moved by the seconds that stand in the file TIDEGATE_STORM_CLOCK (a 64-bit number).
   Loaded before libc by LD_PRELOAD. Linux time namespaces move the monotonic clocks only, and a storm must not set the
   clock of the whole machine. The monotonic clocks, by which programs measure, stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
/* The same wait by its name in C11, which librdkafka uses: libc does not come by pthread_cond_timedwait for it. */
static int (*real_c11_wait)(void *, void *, const struct timespec *);

__attribute__((constructor)) static void start(void) {
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))
        dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_wait)
        real_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))
            dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_c11_wait = (int (*)(void *, void *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    const char *path = getenv("TIDEGATE_STORM_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(0, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        moved = page;
}

static int is_time_of_day(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = real_gettime ? real_gettime(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && moved && is_time_of_day(clock))
        now->tv_sec += *moved;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec time;
    int failed = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME_COARSE, &time);
    if (now)
        *now = time.tv_sec;
    return time.tv_sec;
}

/* The deadline of a wait is a time of day of this host. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    struct timespec of_machine = *deadline;
    if (moved)
        of_machine.tv_sec -= *moved;
    return real_wait(condition, mutex, &of_machine);
}

int cnd_timedwait(void *restrict condition, void *restrict mutex, const struct timespec *restrict deadline) {
    struct timespec of_machine = *deadline;
    if (moved)
        of_machine.tv_sec -= *moved;
    return real_c11_wait(condition, mutex, &of_machine);
}
