/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier of a saga's participant in Promela: one step and its compensation, two workers, and commands that come in
 * any order and any number of times, as the same message again or as a new one. And somebody who answers later what was only
 * taken in hand.
 *
 * Owns the question whether the rows of inbox and barrier give every command one answer and the step one fate, whoever
 * dies between any two statements or waits for whom. Leaves out the age of sagas, batches of several commands, and
 * compensations that are taken in hand.
 *
 * What is wider here than in the program: any command may come at any time, also when nobody would send it any more;
 * Redis is not there, because for participants a mark never skips.
 *
 * Checked at every COMMIT: the step is done (or taken in hand) at most once and undone only after that; once its
 * compensation is answered it is not in force and never will be; all answers to a command are the same. And nobody waits for ever (a state that
 * nothing leads out of): deaths and failures are bounded, and whoever only waits can do nothing else.
 *
 * Twins, made with -D, that must fail: I17 (the precondition is checked before the barrier is asked), I19 (a
 * compensation leaves no row for the step), I27 (a step that was refused is compensated), LATE (an answer counts that
 * comes after the compensation), UNLOCKED (who answers does not lock the row). And END, which fails because both are
 * answered, and WAITS, because what was in hand is answered.
 */
#ifndef FAULTS
#define FAULTS 3 /* deaths, lost connections, functions that fail, COMMITs without an answer */
#endif

#define MESSAGES  4         /* two of each action */
#define ACTION(m) ((m) / 2)
#define RUN        0
#define COMPENSATE 1

/* --- PostgreSQL ----------------------------------------------------------- */

mtype = { absent, finished, refused, nothing, waiting }; /* nothing: done, and there was nothing to undo */

byte inbox;                       /* a set of messages */
mtype row[2] = absent;            /* of the barrier: the step's, the compensation's */
byte balance = 1;                 /* what the step takes */
byte times_done, times_undone;

/* Rows that are written and not committed: a message's, the two of the barrier. Who wants to write the same waits. */
byte receiving[MESSAGES];
byte writing[2];

mtype reply[2] = absent; /* the first one */

byte faults = FAULTS;
#define may_go_wrong faults > 0 -> faults--

#define me (_pid + 1)

inline unlock()
{
    receiving[message] = 0;
    if
    :: writing[RUN] == me -> writing[RUN] = 0
    :: else
    fi;
    if
    :: writing[COMPENSATE] == me -> writing[COMPENSATE] = 0
    :: else
    fi
}

inline roll_back()
{
    unlock();
    message = 0; fresh = false; wrote_run = false; wrote_compensation = false; overtakes = false;
    step = absent; answer = absent; effect = false
}

/* Killed, or the connection is lost, or a function says "retry": all the same to what is left. */
#define may_fail atomic { may_go_wrong; roll_back(); goto loop }

inline check_reply(action)
{
    assert(answer != absent);
    if
    :: answer != waiting ->
       assert(reply[action] == absent || reply[action] == answer);
       reply[action] = answer
    :: else
    fi
}

inline check_rows()
{
    assert(times_done <= 1 && times_undone <= times_done);
    assert(row[COMPENSATE] == absent || times_undone == times_done)
}

inline commit()
{
    inbox = inbox | (1 << message);
    if
    :: wrote_run && ACTION(message) == RUN -> row[RUN] = answer
    :: wrote_run && ACTION(message) == COMPENSATE -> row[RUN] = refused
    :: overtakes -> row[RUN] = refused
    :: else
    fi;
    if
    :: wrote_compensation -> row[COMPENSATE] = answer
    :: else
    fi;
    if
    :: effect && ACTION(message) == RUN -> times_done++; balance--
    :: effect && ACTION(message) == COMPENSATE -> times_undone++; balance++
    :: else
    fi;
    check_rows();
    check_reply(ACTION(message));
#ifdef END
    assert(row[RUN] == absent || row[COMPENSATE] == absent);
#endif
    roll_back()
}

/* --- a worker ----------------------------------------------------------------- */

active [2] proctype worker()
{
    byte message;
    bool fresh, wrote_run, wrote_compensation, overtakes; /* wrote: barrier->inserted; barrier->overtaken */
    bool effect;
    mtype step = absent;   /* barrier->found */
    mtype answer = absent;

end_loop:
loop:
    if
    :: message = 0
    :: message = 1
    :: message = 2
    :: message = 3
    fi;

    /* begin(): idempotency.receive() waits for whoever is at this message. A duplicate is answered, too. */
    atomic { receiving[message] == 0 -> receiving[message] = me; fresh = !(inbox & (1 << message)) }

#ifdef I17
    if
    :: atomic { ACTION(message) == RUN && balance == 0 -> answer = refused; check_reply(RUN); roll_back(); goto loop }
    :: atomic { ACTION(message) != RUN || balance > 0 }
    fi;
#endif

    /* SQL_BARRIER_RUN; SQL_BARRIER_COMPENSATE's first row. A conflict with an open transaction waits for its end. */
#ifdef I19
    if
    :: atomic { ACTION(message) == COMPENSATE }
    :: atomic { ACTION(message) == RUN && row[RUN] != absent }
    :: atomic { ACTION(message) == RUN && row[RUN] == absent && writing[RUN] == 0 -> writing[RUN] = me; wrote_run = true }
    :: may_fail
    fi;
#else
    if
    :: atomic { row[RUN] != absent }
    :: atomic { row[RUN] == absent && writing[RUN] == 0 -> writing[RUN] = me; wrote_run = true }
    :: may_fail
    fi;
#endif
    /* SQL_BARRIER_COMPENSATE's second row */
    if
    :: atomic { ACTION(message) == RUN || row[COMPENSATE] != absent }
    :: atomic {
           ACTION(message) == COMPENSATE && row[COMPENSATE] == absent && writing[COMPENSATE] == 0 ->
           writing[COMPENSATE] = me; wrote_compensation = true
       }
    :: may_fail
    fi;
    /* SQL_BARRIER_OVERTAKE waits for who answers just now */
    if
    :: atomic { ACTION(message) == RUN || row[RUN] != waiting }
    :: atomic {
           ACTION(message) == COMPENSATE && row[RUN] == waiting && writing[RUN] == 0 ->
           writing[RUN] = me; overtakes = true
       }
    :: may_fail
    fi;
    /* SQL_BARRIER_STEP has a snapshot of its own; step_before() */
    if
    :: atomic {
           true ->
           if
           :: overtakes -> step = waiting
           :: !wrote_run && !overtakes -> step = row[RUN]
           :: else
           fi
       }
    :: may_fail
    fi;

    /* barrier_judge(), carry_out(), call_function(), and answer() for what is not stored yet */
    if
    :: atomic { ACTION(message) == RUN && !wrote_run -> answer = row[RUN] }
    :: atomic { ACTION(message) == COMPENSATE && !wrote_compensation -> answer = row[COMPENSATE] }
    :: atomic {
           ACTION(message) == RUN && wrote_run ->
           assert(fresh); /* else "the barrier has lost the answer" */
           if
           :: balance > 0 -> effect = true; answer = finished
           :: balance > 0 -> effect = true; answer = waiting
           :: true -> answer = refused /* ROLLBACK TO SAVEPOINT */
           fi
       }
    :: atomic {
           ACTION(message) == COMPENSATE && wrote_compensation ->
           assert(fresh);
           if
#ifdef I27
           :: step == absent -> answer = nothing
           :: step != absent -> effect = true; answer = finished
#else
           :: step != finished && step != waiting -> answer = nothing
           :: step == finished || step == waiting -> effect = true; answer = finished
#endif
           fi
       }
    :: may_fail
    fi;

    /* COMMIT: with an answer to us or without one, it is the same; or it is not carried out. */
    if
    :: atomic { true -> commit(); goto loop }
    :: may_fail
    fi
}

/* --- who answers later --------------------------------------------------------- */

/* idempotency.reply(), with the token of what was taken in hand. One that does not see "waiting" changes nothing. Refusing
 * undoes. */
active proctype answerer()
{
    mtype answer = absent;

end_loop:
loop:
    atomic {
#ifdef LATE
        row[RUN] != absent && writing[RUN] == 0 -> writing[RUN] = me;
#endif
#ifdef UNLOCKED
        row[RUN] == waiting ->
#endif
#if !defined(LATE) && !defined(UNLOCKED)
        row[RUN] == waiting && writing[RUN] == 0 -> writing[RUN] = me;
#endif
        if
        :: answer = finished
        :: answer = refused
        fi
    }
    atomic {
        if
        :: row[RUN] = answer;
           if
           :: answer == refused -> times_undone++; balance++
           :: else
           fi;
           check_rows();
           check_reply(RUN);
#ifdef WAITS
           assert(false);
#endif
        :: may_go_wrong
        fi;
        answer = absent;
        writing[RUN] = (writing[RUN] == me -> 0 : writing[RUN]);
        goto loop
    }
}
