/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of C11, with which librdkafka is built, as those of POSIX: the
 * only ones that ThreadSanitizer knows. A thread that it has not seen begin
 * crashes at its first malloc(). In no other flavour is anything here.
 */
#ifdef __SANITIZE_THREAD__

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

#pragma GCC visibility push(default)

struct start {
    thrd_start_t run;
    void *arg;
};

static void *
run_start(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    return (void *)(intptr_t)start.run(start.arg);
}

static int
answer(int rc)
{
    return rc == 0           ? thrd_success
           : rc == EBUSY     ? thrd_busy
           : rc == ETIMEDOUT ? thrd_timedout
                             : thrd_error;
}

int
thrd_create(thrd_t *thread, thrd_start_t run, void *arg)
{
    struct start *start = malloc(sizeof *start);
    int rc;

    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){ run, arg };
    rc = pthread_create((pthread_t *)thread, NULL, run_start, start);
    if (rc != 0)
        free(start);
    return answer(rc);
}

int
thrd_join(thrd_t thread, int *result)
{
    void *value;
    int rc = pthread_join((pthread_t)thread, &value);

    if (rc == 0 && result != NULL)
        *result = (int)(intptr_t)value;
    return answer(rc);
}

/* glibc's mtx_t and cnd_t have room for, and are, those of POSIX. */
int
mtx_init(mtx_t *mutex, int type)
{
    pthread_mutexattr_t attributes;
    int rc;

    pthread_mutexattr_init(&attributes);
    if ((type & mtx_recursive) != 0)
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    rc = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return answer(rc);
}

void
mtx_destroy(mtx_t *mutex)
{
    pthread_mutex_destroy((pthread_mutex_t *)mutex);
}

int
mtx_lock(mtx_t *mutex)
{
    return answer(pthread_mutex_lock((pthread_mutex_t *)mutex));
}

int
mtx_trylock(mtx_t *mutex)
{
    return answer(pthread_mutex_trylock((pthread_mutex_t *)mutex));
}

int
mtx_unlock(mtx_t *mutex)
{
    return answer(pthread_mutex_unlock((pthread_mutex_t *)mutex));
}

int
cnd_init(cnd_t *condition)
{
    return answer(pthread_cond_init((pthread_cond_t *)condition, NULL));
}

void
cnd_destroy(cnd_t *condition)
{
    pthread_cond_destroy((pthread_cond_t *)condition);
}

int
cnd_signal(cnd_t *condition)
{
    return answer(pthread_cond_signal((pthread_cond_t *)condition));
}

int
cnd_broadcast(cnd_t *condition)
{
    return answer(pthread_cond_broadcast((pthread_cond_t *)condition));
}

int
cnd_wait(cnd_t *condition, mtx_t *mutex)
{
    return answer(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex));
}

int
cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
              const struct timespec *restrict until)
{
    return answer(
        pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until));
}

#pragma GCC visibility pop
#endif

/* A file is not empty. */
typedef int nothing;
