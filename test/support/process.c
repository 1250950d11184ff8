/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and exec, with a way out for each.
 */
#include "test/support/process.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* One that was killed is gone soon; one that runs to its end hangs if it takes so long. */
enum { GONE_MS = 10000, HANGS_MS = 60000, SHOWN_BYTES = 2000 };

static void
end_process(void *arg)
{
    struct process *process = arg;

    if (!process_ended(process))
        process_kill(process);
    unlink(process->stdout_path);
    unlink(process->stderr_path);
    free(process);
}

static const char *
path_of(const char *name)
{
    const char *built = text_of("%s/%s", build_dir(), name);

    return name[0] != '/' && access(built, X_OK) == 0 ? built : name;
}

/* In the child. Only its errors may tell what went wrong. */
static void
become(const struct process *process, const char *path, const char *const *args,
       const char *const *environment, pid_t test, const sigset_t *mask)
{
    int out = open(process->stdout_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int err = open(process->stderr_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int in = open("/dev/null", O_RDONLY);

    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    closefrom(STDERR_FILENO + 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != test)
        _exit(127);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    for (; environment != NULL && *environment != NULL; environment++)
        putenv((char *)(uintptr_t)*environment);
    execvp(path, (char *const *)(uintptr_t)args);
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    _exit(127);
}

struct process *
start_process(const char *const *args, const char *const *environment)
{
    struct process *process = calloc(1, sizeof *process);
    const char *dir = text_of("%s/test-output", build_dir()), *path = path_of(args[0]);
    const char *stem = text_of("%s/%s.%s", dir, tcase_name(),
                               unique_name(strrchr(path, '/') ? strrchr(path, '/') + 1 : path));
    pid_t test = getpid();
    sigset_t all, mask;

    ck_assert_ptr_nonnull(process);
    mkdir(dir, 0755);
    process->name = text_of("%s", args[0]);
    process->stdout_path = text_of("%s.out", stem);
    process->stderr_path = text_of("%s.err", stem);
    /* A signal to a child that is not yet the program would be answered by Check's handler, which
     * passes it on to the whole process group, and so to the test. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    process->pid = fork();
    if (process->pid == 0)
        become(process, path, args, environment, test, &mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    ck_assert_int_ge(process->pid, 0);
    at_test_end(end_process, process);
    return process;
}

bool
process_ended(struct process *process)
{
    if (!process->ended)
        process->ended = waitpid(process->pid, &process->status, WNOHANG) == process->pid;
    return process->ended;
}

static const char *
contents(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;

    if (file == NULL)
        return "";
    if (getdelim(&text, &size, '\0', file) < 0 && text != NULL)
        text[0] = '\0';
    fclose(file);
    at_test_end(free, text);
    return text != NULL ? text : "";
}

const char *
process_output(const struct process *process)
{
    return contents(process->stdout_path);
}

const char *
process_errors(const struct process *process)
{
    return contents(process->stderr_path);
}

/* Its last words, for a failed test's message. */
static const char *
last_words(const struct process *process)
{
    const char *said = process_errors(process);
    size_t len = strlen(said);

    return len > SHOWN_BYTES ? said + len - SHOWN_BYTES : said;
}

int
process_wait(struct process *process, int ms)
{
    struct deadline deadline = deadline_in(ms);

    while (!process_ended(process))
        if (!wait_a_little(&deadline))
            ck_abort_msg("%s still runs after %d ms; it said: %s", process->name, ms,
                         last_words(process));
    return WIFEXITED(process->status) ? WEXITSTATUS(process->status) : -WTERMSIG(process->status);
}

void
process_expect(struct process *process, int code, int ms)
{
    int ended_with = process_wait(process, ms);

    ck_assert_msg(ended_with == code, "%s ended with %d, not %d; it said: %s", process->name,
                  ended_with, code, last_words(process));
}

const char *
run_process(const char *const *args)
{
    struct process *process = start_process(args, NULL);

    process_expect(process, 0, HANGS_MS);
    return process_output(process);
}

void
process_signal(struct process *process, int signal)
{
    ck_assert_msg(!process_ended(process), "%s has already ended with status %d; it said: %s",
                  process->name, process->status, last_words(process));
    ck_assert_int_eq(kill(process->pid, signal), 0);
}

void
process_freeze(struct process *process)
{
    int status;

    process_signal(process, SIGSTOP);
    ck_assert_int_eq(waitpid(process->pid, &status, WUNTRACED), process->pid);
    ck_assert_msg(WIFSTOPPED(status), "%s ended instead of standing still", process->name);
}

void
process_thaw(struct process *process)
{
    process_signal(process, SIGCONT);
}

void
process_kill(struct process *process)
{
    if (process_ended(process))
        return;
    kill(process->pid, SIGKILL);
    process_wait(process, GONE_MS);
}
