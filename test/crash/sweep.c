/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * Kills every kind of process at every crash point that it passes, while orders
 * go through the shop, and lets the outside checker judge what is left.
 *
 * A round is one shop. First it works undisturbed, and each process logs which
 * points it passes. Then the processes of some kinds are started again and again,
 * each time to die at the next point that their kind was seen passing; meanwhile
 * orders keep coming, and whoever dies is followed by one who finds what he left.
 * In the end all are left alone until every saga has ended.
 *
 * Which points there are is told by the source. One at which nobody dies fails
 * the sweep.
 */
#include "test/support/crash_points.h"
#include "test/support/db.h"
#include "test/support/member.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdio.h>
#include <string.h>
#include <sys/param.h>

enum {
    MEMBERS_MAX = 16,
    ORCHESTRATORS = 2,
    TRIES_MAX = 3,       /* to see somebody die at a first passing; at later ones 1 */
    BATCH = 10,          /* orders of one run of the customers */
    BURST = 5000,        /* messages that a relay publishes while it does so */
    UNFINISHED_MAX = 30, /* no new ones while there are more */
    WARM_UP_ORDERS = 50, /* everybody who refuses has refused by then */
    TARGET_MS = 6000,    /* who does not die by then is told to end, and may die of that */
    END_MS = 15000,      /* who was told to end, ends */
    IMPATIENT_MS = 1000, /* the orchestrator's, in a round where answers come later */
    SETTLE_MS = 45000,   /* all sagas have ended */
    SWEEP_MS = 90000
};

static const unsigned ANY_SERVICE = ~0u;

static struct score *score;

struct round {
    struct shop *shop;
    struct member members[MEMBERS_MAX];
    int n_members;
    const bool *kinds; /* which are killed */
    const int *hits;   /* at which passings; ends with 0 */
    int reply_ms;      /* orchestrators lose patience after so long; 0: not in our time */
    bool sweeping, feeding;
    bool done[N_KINDS][POINTS_MAX][HIT_MAX + 1];
    int tries[N_KINDS][POINTS_MAX][HIT_MAX + 1];
    int unfinished;
};

/* --- who dies where ------------------------------------------------------------ */

static bool
is_anybodys_target(const struct round *round, int kind, struct target target)
{
    for (int i = 0; i < round->n_members; i++) {
        const struct member *member = &round->members[i];

        if (member->process != NULL && member->kind == kind && member->target.hit == target.hit &&
            member->target.point == target.point)
            return true;
    }
    return false;
}

/* For one of these services: the least tried first. */
static struct target
next_target(const struct round *round, int kind, unsigned services)
{
    struct target best = { 0 };
    int best_tries = TRIES_MAX;

    if (!round->sweeping || !round->kinds[kind])
        return best;
    for (const int *hit = round->hits; *hit != 0; hit++)
        for (int point = 0; point < score->n_points; point++) {
            struct target target = { point, *hit };
            int tries = round->tries[kind][point][*hit];

            if ((score->passed[kind][point][*hit] & services) != 0 &&
                !round->done[kind][point][*hit] &&
                tries < (*hit == 1 ? best_tries : MIN(best_tries, 1)) &&
                !is_anybodys_target(round, kind, target)) {
                best = target;
                best_tries = tries;
            }
        }
    return best;
}

/* --- looking after one of them -------------------------------------------------- */

/* Whether a process that is well has to go, so that one can die where it will not. */
static bool
should_end(const struct round *round, const struct member *member)
{
    int64_t age_ms = (monotonic_us() - member->since_us) / 1000;

    if (member->kind == KIND_CUSTOMERS || member->told_to_end)
        return false; /* those end by themselves */
    if (member->target.hit == 0)
        return next_target(round, member->kind, 1u << member->service).hit != 0;
    return age_ms > TARGET_MS ||
           (score->at_stop[member->kind][member->target.point] && member->near);
}

static void
look_after(struct round *round, struct member *member)
{
    struct target target = member->target;

    switch (member_look(member, score)) {
    case MEMBER_LIVES:
        if (should_end(round, member))
            member_tell_to_end(member);
        return;
    case MEMBER_DIED:
        round->done[member->kind][target.point][target.hit] = true;
        printf("     %6d ms  %-16s died at %s:%d\n",
               (int)((monotonic_us() - member->since_us) / 1000), member->name,
               score->points[target.point].name, target.hit);
        break;
    case MEMBER_ENDED:
        round->tries[member->kind][target.point][target.hit]++;
        break;
    }
    member->target.hit = 0;
}

/* --- a round -------------------------------------------------------------------- */

static void
add_member(struct round *round, int kind, int service, int instance)
{
    ck_assert_int_lt(round->n_members, MEMBERS_MAX);
    round->members[round->n_members++] = member_of(kind, service, instance);
}

static void
open_round(struct round *round)
{
    round->shop = given_shop();
    round->shop->reply_ms = round->reply_ms;
    for (int service = 0; service < SHOP_SERVICES; service++)
        add_member(round, KIND_RELAY, service, 1);
    for (int service = SHOP_ORDER + 1; service < SHOP_SERVICES; service++)
        add_member(round, KIND_PARTICIPANT, service, 1);
    for (int i = 1; i <= ORCHESTRATORS; i++)
        add_member(round, KIND_ORCHESTRATOR, SHOP_ORDER, i);
    add_member(round, KIND_CUSTOMERS, SHOP_ORDER, 1);
}

/* Another batch of orders, if the shop is not busy enough. */
static void
feed(struct round *round, struct member *customers)
{
    round->unfinished = shop_unfinished(round->shop);
    if (!round->feeding || customers->process != NULL || round->unfinished > UNFINISHED_MAX)
        return;
    /* Nobody can order before an orchestrator has registered the saga. */
    if (round->shop->placed == 0 &&
        db_int(round->shop->orders, "SELECT count(*) FROM saga.definition") == 0)
        return;
    if (round->shop->placed > 0)
        shop_send_oddities(round->shop, BURST);
    round->shop->placed += BATCH;
    member_start(customers, round->shop, next_target(round, KIND_CUSTOMERS, ANY_SERVICE), score);
}

static void
step(struct round *round)
{
    for (int i = 0; i < round->n_members; i++) {
        struct member *member = &round->members[i];

        if (member->process != NULL)
            look_after(round, member);
        else if (member->kind != KIND_CUSTOMERS)
            member_start(member, round->shop,
                         next_target(round, member->kind, 1u << member->service), score);
    }
    feed(round, &round->members[round->n_members - 1]);
}

static bool
anything_to_sweep(const struct round *round)
{
    for (int kind = 0; kind < N_KINDS; kind++)
        if (next_target(round, kind, ANY_SERVICE).hit != 0)
            return true;
    for (int i = 0; i < round->n_members; i++)
        if (round->members[i].target.hit != 0)
            return true;
    return false;
}

/* Until all is quiet: no customers, no unfinished saga. */
static void
settle(struct round *round)
{
    struct deadline deadline = deadline_in(SETTLE_MS);

    round->feeding = false;
    do
        step(round);
    while ((round->members[round->n_members - 1].process != NULL || round->unfinished > 0) &&
           wait_a_little(&deadline));
    ck_assert_msg(round->unfinished == 0, "%d sagas have not ended, for example %s",
                  round->unfinished,
                  db_text(round->shop->orders,
                          "SELECT format('%%s is %%s: %%s', business_key, state, i)"
                          " FROM saga.instance i WHERE state IN ('running', 'compensating')"));
}

/* Everybody is told to end, and points that are passed only then are seen. */
static void
end_all(struct round *round)
{
    struct deadline deadline = deadline_in(END_MS);
    int left;

    for (int i = 0; i < round->n_members; i++)
        if (round->members[i].process != NULL)
            member_tell_to_end(&round->members[i]);
    do {
        left = 0;
        for (int i = 0; i < round->n_members; i++)
            if (round->members[i].process != NULL) {
                look_after(round, &round->members[i]);
                left++;
            }
    } while (left > 0 && wait_a_little(&deadline));
}

static void
warm_up(struct round *round)
{
    struct deadline deadline = deadline_in(SETTLE_MS);

    round->feeding = true;
    do
        step(round);
    while (round->shop->placed < WARM_UP_ORDERS && wait_a_little(&deadline));
    settle(round);
    end_all(round);
}

static void
sweep(struct round *round)
{
    struct deadline deadline = deadline_in(SWEEP_MS);
    const char *missed = "";

    round->feeding = round->sweeping = true;
    do
        step(round);
    while (anything_to_sweep(round) && wait_a_little(&deadline));
    round->sweeping = false;
    /* That somebody passes a point three times is luck; that he passes it is not. */
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int point = 0; point < score->n_points; point++)
            if (round->kinds[kind] && round->hits[0] == 1 && score->passed[kind][point][1] &&
                !round->done[kind][point][1])
                missed = text_of("%s\n%s %s", missed, kind_name(kind), score->points[point].name);
    ck_assert_msg(*missed == '\0', "nobody died where somebody should have:%s", missed);
}

static void
judge(struct round *round)
{
    const char *checked = shop_check(round->shop, 20000);

    printf("%s", checked);
    score->orders += shop_figure(checked, "orders");
    score->completed += shop_figure(checked, "completed");
    score->compensated += shop_figure(checked, "compensated");
    score->parked += shop_figure(checked, "parked");
    score->published_again += shop_figure(checked, "published again");
    score->sent_again += shop_sent_again(round->shop);
    score->lost += shop_figure(checked, "lost");
    score->doubled += shop_figure(checked, "doubled effects");
    score->rounds++;
}

static void
timed(struct round *round, const char *phase, void (*run)(struct round *round))
{
    int64_t began = monotonic_us();

    run(round);
    printf("  %-22s %.1f s\n", phase, (double)(monotonic_us() - began) / 1e6);
}

/* What is passed is known to the rounds that follow the first. */
static void
run_round(const bool kinds[N_KINDS], const int *hits, int reply_ms)
{
    static struct round round;

    round = (struct round){ .kinds = kinds, .hits = hits, .reply_ms = reply_ms };
    timed(&round, "set up", open_round);
    if (!score->warmed_up)
        timed(&round, "undisturbed", warm_up);
    score->warmed_up = true;
    timed(&round, "swept", sweep);
    timed(&round, "settled", settle);
    timed(&round, "judged", judge);
    timed(&round, "ended", end_all);
}

#define KINDS(...) ((const bool[N_KINDS]){ __VA_ARGS__ })
#define HITS(...)  ((const int[]){ __VA_ARGS__, 0 })

START_TEST(test_sweep_relays_lose_and_double_nothing)
{
    run_round(KINDS([KIND_RELAY] = true), HITS(1, 3), 0);
}
END_TEST

START_TEST(test_sweep_participants_lose_and_double_nothing)
{
    run_round(KINDS([KIND_PARTICIPANT] = true), HITS(1, 3), 0);
}
END_TEST

START_TEST(test_sweep_orchestrators_and_customers_lose_and_double_nothing)
{
    run_round(KINDS([KIND_ORCHESTRATOR] = true, [KIND_CUSTOMERS] = true), HITS(1, 3), 0);
}
END_TEST

/* Commands are sent again, and steps whose outcome is unknown are undone. */
START_TEST(test_sweep_all_at_once_loses_and_doubles_nothing)
{
    run_round(KINDS([KIND_RELAY] = true, [KIND_PARTICIPANT] = true, [KIND_ORCHESTRATOR] = true,
                    [KIND_CUSTOMERS] = true),
              HITS(2), IMPATIENT_MS);
}
END_TEST

enum { ROUNDS = 4 };

/* Only after all of the above; a chosen few cannot tell. */
START_TEST(test_sweep_misses_no_point_of_the_source)
{
    const char *missed = "";

    score_print_points(score);
    for (int point = 0; point < score->n_points; point++)
        if (!point_swept(score, point) &&
            strcmp(crash_point_owner(score->points[point].name), "crash/sweep") == 0)
            missed = text_of("%s\n%s in %s", missed, score->points[point].name,
                             score->points[point].file);
    ck_assert_msg(score->rounds < ROUNDS || *missed == '\0', "nobody ever died at:%s", missed);
}
END_TEST

int
main(void)
{
    const struct tests tests = {
        .name = "crash/sweep",
        .tests = TESTS(test_sweep_relays_lose_and_double_nothing,
                       test_sweep_participants_lose_and_double_nothing,
                       test_sweep_orchestrators_and_customers_lose_and_double_nothing,
                       test_sweep_all_at_once_loses_and_doubles_nothing,
                       test_sweep_misses_no_point_of_the_source),
        .timeout_s = 115,
    };
    int64_t began = monotonic_us();
    int code;

    score = score_new();
    code = run_tests(&tests);
    if (score->kills > 0)
        score_print(score, (double)(monotonic_us() - began) / 1e6);
    return code;
}
