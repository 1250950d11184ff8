/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay's protocol in Promela: two relays, one stream, a PostgreSQL that may crash and a Kafka that may be slow.
 *
 * Owns the question whether lease, pair and cursor fit together when anybody is killed, stopped or overtaken between
 * any two steps. Leaves out how a pair's rows are found (the floor, pages, indexes): here a snapshot is the set of the
 * transactions that have ended, and a pair is read as the difference of two sets.
 *
 * What is wider here than in the program, so that less rests on it: a lease may end at any moment, so whoever wants the
 * stream gets it; a stopped relay is one that is not scheduled; what a dead relay has put on the wire may still arrive.
 *
 * Checked at every step: only what is on disk is published; first occurrences are in order per key; the cursor stands
 * behind what is published. At the end: everything committed is published.
 *
 * Twins, made with -D, that must fail: O2 (publishes without waiting for the disk), O3 (in the order of xid), O9 (the
 * cursor is written without comparing), O10 (the cursor moves with what was sent), O23 (a successor takes a new cur), O24
 * (an owner takes the stream without waiting for the disk, and goes on after a crash with what it remembers). And END,
 * which fails because the end is reached.
 */
#define N 3          /* transactions, one message each; their number is their xid */
#define KEY(t) ((t) / 2) /* the first two share a key */
#ifndef EPOCHS
#define EPOCHS 3     /* times that the stream is taken; the last owner and its PostgreSQL live on */
#endif

#define BIT(t)      (1 << (t))
#define HAS(set, t) ((set) & BIT(t))
#define ALL         (BIT(N) - 1)
#define NOBODY      2

#ifdef O3
#define ORDER(t) ((t) + 1)
#else
#define ORDER(t) seq[t]
#endif

/* --- PostgreSQL --------------------------------------------------------- */

/* As everybody sees it, and as it would be after a crash. Writing the log up to now makes them the same. */
typedef database {
    byte xids, seqs; /* so many were given out */
    byte committed;  /* a set */
    byte owner, epoch, prev, cur, last; /* the stream's row; cur 0: no pair is open */
};
database now, disk;

byte seq[N];
byte ended;       /* a set: what a snapshot shows */
byte wrote;       /* a set: has a seq, holds its key's lock until it ends */
#ifndef CRASHES
#define CRASHES 1
#endif
bool crashed = !CRASHES; /* connections from before it are lost */

inline copy(to, from)
{
    to.xids = from.xids;   to.seqs = from.seqs;   to.committed = from.committed;
    to.owner = from.owner; to.epoch = from.epoch; to.prev = from.prev;
    to.cur = from.cur;     to.last = from.last;
}

#define flush() copy(disk, now)

/* There is one crash. After it, what is on disk need not be kept apart. */
inline written()
{
    if
    :: crashed -> flush()
    :: else
    fi
}

#define running(t) (t < now.xids && !HAS(ended, t))
#define locked(t) ((wrote & ~ended & ~BIT(t)) & (KEY(t) == 0 -> 3 : ALL & ~3))

inline one_transaction(t)
{
    d_step { running(t) && !HAS(wrote, t) && !locked(t);
             wrote = wrote | BIT(t); now.seqs++; seq[t] = now.seqs; written() }
}

/* --- Kafka -------------------------------------------------------------- */

byte published;             /* a set */
byte first[2], second[2];   /* per relay, on the wire: a transaction and one, or 0 */
byte acked[2];              /* the order of the last one acknowledged */
bool failed[2];             /* what was on the wire was refused */
byte ghost_1, ghost_2;      /* of a relay that is gone; only what would be new there */

/* No message of the key that comes later is there already, unless this is a repetition. */
#define overtaken(t, other)                                                                        \
    (HAS(published, other) && KEY(other) == KEY(t) && seq[other] > seq[t])

inline forget_ghost()
{
    if
    :: ghost_1 != 0 && HAS(published, ghost_1 - 1) -> ghost_1 = ghost_2; ghost_2 = 0
    :: else
    fi
}

inline append(t)
{
    assert(HAS(disk.committed, t));
    assert(HAS(published, t) || !(overtaken(t, 0) || overtaken(t, 1) || overtaken(t, 2)));
    published = published | BIT(t);
    forget_ghost();
    forget_ghost()
}

inline arrive(r)
{
    d_step { first[r] != 0; append(first[r] - 1); acked[r] = ORDER(first[r] - 1);
             first[r] = second[r]; second[r] = 0 }
}

inline refuse(r)
{
    d_step { first[r] != 0; first[r] = 0; second[r] = 0; failed[r] = true }
}

/* --- everything but the relays ------------------------------------------- */

active proctype world()
{
    byte t;

end_world:
    do
    :: d_step { now.xids < N; now.xids++; written() }
    :: one_transaction(0)
    :: one_transaction(1)
    :: one_transaction(2)
    :: atomic {
           if
           :: running(0) -> t = 0
           :: running(1) -> t = 1
           :: running(2) -> t = 2
           fi;
           ended = ended | BIT(t);
           if
           :: HAS(wrote, t) -> now.committed = now.committed | BIT(t)
           :: seq[t] = 0; wrote = wrote & ~BIT(t)
           fi;
           t = 0;
           written()
       }
    :: d_step { !crashed; flush() }
    :: d_step { !crashed && now.epoch < EPOCHS; crashed = true;
                copy(now, disk); wrote = now.committed; ended = BIT(now.xids) - 1;
                t = 0;
                do
                :: t < N && !HAS(wrote, t) -> seq[t] = 0; t++
                :: t < N && HAS(wrote, t) -> t++
                :: else -> break
                od;
                t = 0 }
    :: arrive(0)
    :: arrive(1)
    :: refuse(0)
    :: refuse(1)
    :: d_step { ghost_1 != 0; append(ghost_1 - 1) }
    od
}

#define me (_pid - 1)

/* --- a relay -------------------------------------------------------------- */

#ifdef O9
#define FENCE (cur == 0 || now.cur != 0) /* prev is never NULL */
#else
#define FENCE (now.owner == me && now.epoch == epoch && now.prev == prev && now.cur == cur && now.last == last)
#endif
#ifdef O24
#define CONNECTED true
#else
#define CONNECTED (connection == crashed)
#endif

#define left(t)      (HAS(page, t) && ORDER(t) > handed)
#define before(o, t) (left(o) && ORDER(o) < ORDER(t))
#define is_next(t)   (left(t) && !before(0, t) && !before(1, t) && !before(2, t))
#define none_left    (!left(0) && !left(1) && !left(2))

#define settled(t) (!HAS(now.committed & now.cur & ~now.prev, t) || ORDER(t) > now.last || HAS(published, t))

/* After each write of the cursor: up to where it stands, everything is published. */
inline check()
{
    written();
    assert((now.committed & now.prev & ~published) == 0);
    assert(settled(0) && settled(1) && settled(2))
}

inline send(t)
{
    atomic {
        is_next(t) && second[me] == 0 && !failed[me];
        if
        :: first[me] == 0 -> first[me] = t + 1
        :: else -> second[me] = t + 1
        fi;
        handed = ORDER(t)
    }
}

/* Another owner, a lost connection, or killed: all the same to what it remembers. */
#define may_die now.epoch < EPOCHS -> goto gone

active [2] proctype relay()
{
    byte epoch, prev, cur, last; /* the row as this relay knows it */
    byte look, page, handed;
    bool connection, at_risk;

end_standby:
    atomic {
        now.epoch < EPOCHS && (now.epoch > 0 || me == 0);
        now.epoch++;
        now.owner = me;
#ifdef O23
        if
        :: now.cur != 0 -> now.cur = ended
        :: else
        fi;
#endif
        flush();
        connection = crashed;
        epoch = now.epoch; prev = now.prev; cur = now.cur; last = now.last;
        if
        :: cur != 0 ->
            page = now.committed & cur & ~prev;
            handed = last; acked[me] = last;
            goto publish
        :: else
        fi
    }

end_look:
    /* What there is, and whether a crash could take some of it back. */
    atomic {
        if
        :: prev != ALL && CONNECTED ->
            look = ended;
            page = now.committed & look & ~prev;
            at_risk = now.committed != disk.committed
        :: !CONNECTED -> goto gone
        :: may_die
        fi
    }
    atomic {
        if
        :: page == 0 && look != prev && CONNECTED && FENCE ->
            now.prev = look; prev = look; look = 0; at_risk = false;
            check();
            if
            :: prev == ALL && now.owner == me -> assert((now.committed & ~published) == 0)
            :: else
            fi;
#ifdef END
            assert(!(prev == ALL && now.epoch == EPOCHS && crashed));
#endif
            goto end_look
        :: page == 0 -> look = 0; at_risk = false; goto end_look
        :: page != 0 && CONNECTED && FENCE ->
            now.cur = look; now.last = 0; cur = look; last = 0; look = 0;
#ifndef O2
            if
            :: at_risk -> flush()
            :: else
            fi;
#endif
            at_risk = false;
            check()
        :: !(CONNECTED && FENCE) -> goto gone
        :: may_die
        fi
    }

publish:
    do
    :: send(0)
    :: send(1)
    :: send(2)
    :: atomic { failed[me]; failed[me] = false; handed = acked[me] }
#ifdef O10
    :: atomic {
           handed > last && CONNECTED && FENCE;
           now.last = handed; last = handed;
#else
    :: atomic {
           acked[me] > last && CONNECTED && FENCE;
           now.last = acked[me]; last = acked[me];
#endif
           check()
       }
    :: atomic {
#ifdef O10
           none_left && CONNECTED && FENCE;
#else
           none_left && first[me] == 0 && !failed[me] && CONNECTED && FENCE;
#endif
           now.prev = now.cur; now.cur = 0; now.last = 0;
           prev = cur; cur = 0; last = 0; page = 0; handed = 0; acked[me] = 0;
           check();
           goto end_look
       }
    :: !(CONNECTED && FENCE) -> goto gone
    :: may_die
    od;

gone:
    atomic {
        if
        :: first[me] != 0 && HAS(published, first[me] - 1) -> first[me] = second[me]; second[me] = 0
        :: else
        fi;
        if
        :: ghost_1 == 0 && first[me] != 0 && !HAS(published, first[me] - 1) ->
            ghost_1 = first[me]; ghost_2 = second[me]
        :: else
        fi;
        first[me] = 0; second[me] = 0; acked[me] = 0; failed[me] = false;
        epoch = 0; connection = false; prev = 0; cur = 0; last = 0; look = 0; page = 0; handed = 0; at_risk = false
    }
    goto end_standby
}
