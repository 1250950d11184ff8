/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's protocol in Promela: two consumers of one partition, Redis, inbox and offsets; and somebody who
 * applies one of the messages from another topic.
 *
 * Owns the question whether marks, inbox and the two offsets fit together when anybody is killed, stopped, evicted or
 * cut off between any two steps, and when PostgreSQL comes back without its last commits. Leaves out poison, quarantine
 * and the horizon; and batches over several partitions, because what they touch is locked in the same way.
 *
 * What is wider here than in the program, so that less rests on it: nothing has a time, so any message may have to wait
 * for being tried again, and a batch is any set of messages of which none overtakes its key; a stopped consumer is one
 * that is not scheduled; a mark that is there may go unseen, which stands for a Redis that forgets, is slow, gone, loses
 * an answer, gets a write late, or says "busy".
 *
 * Checked at every COMMIT: no effect twice, the order of a key holds. Whenever the owner has nothing to do: all is
 * applied in the database as it is then. At the end, because faults are bounded: nobody waits for ever, for that would
 * be a state that nothing leads out of; and with check --ends, there is always an end.
 *
 * Not checked, because nothing promises it: a connection that leads to another server without having been lost (a
 * pooler's) between a mark and the next COMMIT; a database that is set back without a new timeline, where a mark counts
 * unless Kafka's offset is past it (docs/guarantees.md); and Redis without an inbox.
 *
 * Twins, made with -D, that must fail: I1 (a mark before the work), I2 (who finds the inbox row of an open transaction
 * takes it for a duplicate), I5 (who has failed writes the mark all the same), I9 (marks without the database's
 * identity), I26 (reading begins where Kafka says, wherever PostgreSQL stands), BEHIND (what has finished behind a message
 * that waits counts as finished after a failover), WAITED (PostgreSQL's offset passes a message that waits). And END,
 * which fails because the end is reached.
 */
#ifndef N
#define N 2 /* messages in the partition, each with an id of its own; one of another topic has the first one's id */
#endif
#ifndef KEYS
#define KEYS 1 /* message m has the key m modulo KEYS */
#endif
#ifndef FAILOVERS
#define FAILOVERS 1
#endif
#ifndef ELSEWHERE /* somebody has the first one from there */
#define ELSEWHERE 1
#endif
#ifndef FAULTS
#define FAULTS 2 /* evictions, deaths, lost connections, failed handlers, unanswered COMMITs */
#endif

#define BIT(m)      (1 << (m))
#define HAS(set, m) ((set) & BIT(m))
#define ALL         (BIT(N) - 1)
#define MAX(a, b)   ((a) > (b) -> (a) : (b))

/* The one before it with its key, as a set. */
#define AHEAD_OF(m) ((m) < KEYS -> 0 : BIT((m) - KEYS))
#define follows(m, set) (!HAS(set, m) || (AHEAD_OF(m) & ~(set)) == 0)

#define NOBODY 0
#define LATE   3 /* whose client is gone */

/* --- PostgreSQL --------------------------------------------------------- */

/* No row for the offset is the same as 0. */
typedef database {
    byte applied; /* a set: inbox rows and effects; they are written together */
    byte offset;
};
database now, standby;
byte timeline = 1;

/* Who has opened the partition's offset holds its row, so there is one of those transactions. */
byte holder;
byte entered; /* a set: its new inbox rows */
byte next;    /* what it closes the offset with */

byte entered_elsewhere; /* the same, of the transaction for the other topic */

inline replicated()
{
    if
    :: timeline > FAILOVERS -> standby.applied = now.applied; standby.offset = now.offset
    :: else
    fi
}

inline forget_transaction()
{
    holder = NOBODY; entered = 0; next = 0
}

inline commit()
{
    assert((entered & now.applied) == 0);
    now.applied = now.applied | entered; now.offset = next;
    assert(follows(1, now.applied) && follows(2, now.applied));
    replicated();
    forget_transaction()
}

/* --- Redis --------------------------------------------------------------- */

/* For each timeline, which is a part of their names: sets. */
byte done[FAILOVERS + 2];
#ifdef I9
#define NAME(timeline) 1
#else
#define NAME(timeline) (timeline)
#endif

/* --- Kafka ---------------------------------------------------------------- */

byte committed;  /* the group's offset */
byte owner = 1;  /* the member whose commits are accepted */
bool member[3];  /* who believes to be the owner; who was evicted learns it when he looks */
byte stored[3];  /* for librdkafka's next commit; 0: nothing */

/* --- everything but the consumers ----------------------------------------- */

byte faults = FAULTS;
#define may_go_wrong faults > 0 -> faults--

inline auto_commit(c)
{
    d_step { member[c] && owner == c && stored[c] != 0 && stored[c] != committed -> committed = stored[c] }
}

active proctype world()
{
end_world:
    do
    :: d_step { owner == NOBODY && !member[1] -> owner = 1 }
    :: d_step { owner == NOBODY && !member[2] -> owner = 2 }
    :: d_step { owner == 1 && !member[2] && may_go_wrong; owner = 2 }
    :: d_step { owner == 2 && !member[1] && may_go_wrong; owner = 1 }
    :: auto_commit(1)
    :: auto_commit(2)
    :: d_step { holder == LATE -> commit() }
    :: d_step { holder == LATE -> forget_transaction() }
    :: d_step { timeline <= FAILOVERS && !(standby.applied == now.applied && standby.offset == now.offset) ->
                standby.applied = now.applied; standby.offset = now.offset }
    :: d_step { timeline <= FAILOVERS ->
                timeline++;
                now.applied = standby.applied; now.offset = standby.offset;
                forget_transaction(); entered_elsewhere = 0 }
    od
}

/* Another consumer of the group, at another topic: the same steps, but its offset is nobody else's. */
active proctype elsewhere()
{
    byte connection;

end_elsewhere:
    do
    :: atomic {
           ELSEWHERE && !HAS(now.applied, 0) && !HAS(entered, 0) -> entered_elsewhere = BIT(0); connection = timeline
       }
       if
       :: atomic { connection == timeline -> assert(!HAS(now.applied, 0)); entered_elsewhere = 0;
                   now.applied = now.applied | BIT(0); replicated() }
          if
          :: d_step { done[NAME(connection)] = done[NAME(connection)] | BIT(0); connection = 0 }
          :: d_step { may_go_wrong; connection = 0 }
          fi
       :: d_step { connection == timeline && may_go_wrong; entered_elsewhere = 0; connection = 0 }
       :: d_step { connection != timeline -> connection = 0 }
       fi
    od
}

/* --- a consumer ------------------------------------------------------------- */

#define me (_pid - 1)

#define ready      (BIT(fetch) - 1 & ~(BIT(first) - 1) & ~finished)
#define behind     (any && MAX(first, least) != expected)
#define connected  (connection == timeline)

/* hand_settle() and kafka_finish() */
inline finish()
{
    do
    :: first < fetch && HAS(finished, first) ->
        finished = finished & ~BIT(first); first++; any = true; position = first; stored[me] = first
    :: else -> break
    od
}

/* kafka_drop() and hand_init() */
inline drop()
{
    fetch = 0; first = 0; finished = 0; any = false; batch = 0
}

/* remove_partition(), or death */
inline forget()
{
    drop();
    settled = false; position = 0; expected = 0; least = 0; distrust = 0;
    stored[me] = 0; member[me] = false
}

/* Of a batch that fails: batch_failed(), nothing is finished. */
inline put_back()
{
#ifdef I5
    done[NAME(connection)] = done[NAME(connection)] | batch;
#endif
    batch = 0
}

/* pg_rollback(), if there is something to roll back */
inline roll_back()
{
    if
    :: holder == me -> forget_transaction()
    :: else
    fi;
    put_back()
}

/* database_failed(), pg_disconnect(); database_ready() unsettles */
inline disconnect()
{
    connection = 0; settled = false; expected = 0; least = 0
}

/* Killed: the server rolls back. Its successor is another member. */
inline die()
{
    if
    :: holder == me -> forget_transaction()
    :: else
    fi;
    if
    :: owner == me -> owner = NOBODY
    :: else
    fi;
    forget();
    connection = 0
}
#define may_die atomic { may_go_wrong; die(); goto end_standby }

/* Between any two steps of a transaction. */
#define may_fail                                                                                   \
    atomic { may_go_wrong; roll_back(); goto loop }                                                     \
    :: atomic { connected && may_go_wrong; roll_back(); disconnect(); goto loop }                  \
    :: atomic { !connected -> put_back(); disconnect(); goto loop }                                \
    :: may_die

/* hand_next_if_finished() and offset_to_commit(): behind the prefix that is finished or in this batch */
inline choose_next()
{
    next_offset = first;
    do
    :: next_offset < fetch && HAS(batch | finished, next_offset) -> next_offset++
    :: else -> break
    od;
#ifdef WAITED
    if
    :: !any && next_offset == first ->
        do
        :: next_offset < fetch && !HAS(batch, next_offset) -> next_offset++
        :: else -> break
        od
    :: else
    fi;
#endif
    next_offset = MAX(next_offset, least)
}

inline add(m)
{
    if
    :: HAS(ready, m) && (ready & ~batch & AHEAD_OF(m)) == 0 -> batch = batch | BIT(m)
    :: true
    fi
}

active [2] proctype consumer()
{
    byte connection;               /* the timeline that it leads to; 0: none */
    bool settled, any;             /* any: hand.next is not OFFSET_NONE, that is, it is `first` */
    byte position, expected, least, distrust; /* expected: partition->committed; least: its floor */
    byte first, fetch, finished;   /* in hand: from, to; a set */
    byte batch, next_offset;       /* chosen: a set */

end_standby:
    /* assign(): librdkafka begins where the group has committed. */
    atomic { owner == me -> member[me] = true; fetch = committed; first = committed }

loop:
    if
    /* revoke(), served between two batches */
    :: atomic { owner != me -> forget(); goto end_standby }
    /* connect_once(), read_identity() */
    :: atomic { connection == 0 -> connection = timeline; goto loop }
    /* wait_for_something(), or a statement that fails */
    :: atomic { connection != 0 && !connected -> disconnect(); goto loop }
    :: atomic { connected && may_go_wrong; disconnect(); goto loop }
    /* try_to_settle() */
    :: atomic {
           connected && !settled ->
           if
           :: !any && first == fetch && position == 0 -> position = committed
           :: else
           fi;
           if
           :: position < now.offset -> least = now.offset
           :: else -> least = 0
           fi;
#ifndef I26
           /* offsets_start(), go_back() */
           if
           :: now.offset < position ->
               drop(); first = now.offset; fetch = now.offset; distrust = MAX(distrust, position)
           :: else
           fi;
#endif
#ifndef BEHIND
           finished = 0; /* hand_reopen() */
#endif
           expected = now.offset;
           settled = true;
           goto loop
       }
    /* hold(), marks_ask() */
    :: atomic {
           settled && fetch < N ->
           if
           :: first == fetch -> position = first
           :: else
           fi;
           if
           :: HAS(done[NAME(connection)], fetch) && fetch >= distrust -> finished = finished | BIT(fetch)
           :: true
           fi;
           fetch++;
           finish();
           goto loop
       }
    /* hand_choose(), or batch_catch_up() */
    :: atomic {
           settled && ready ->
           add(0); add(1); add(2);
           if
           :: batch == 0 -> batch = BIT(first) /* which is not finished, or it would be gone */
           :: else
           fi;
           goto transact
       }
    :: atomic { settled && !ready && behind -> goto transact }
    /* is_idle() */
    :: atomic {
           settled && connected && owner == me && fetch == N && first == N && !behind ->
           assert(now.applied == ALL);
#ifdef END
           assert(!(faults == 0 && timeline > FAILOVERS));
#endif
           goto end_idle
       }
    :: may_die
    fi;

end_idle:
    if
    :: atomic { owner != me || !connected -> goto loop }
    :: may_die
    fi;

transact:
#ifdef I1
    done[NAME(connection)] = done[NAME(connection)] | batch;
#endif
    /* begin(): BEGIN, SQL_OFFSETS_OPEN or _MAKE, which wait for the row */
    if
    :: atomic {
           holder == NOBODY && connected ->
           choose_next();
           if
           :: now.offset == expected -> holder = me; next = next_offset; next_offset = 0
           :: else -> next_offset = 0; settled = false; expected = 0; least = 0; put_back(); goto loop /* unsettle_fenced() */
           fi
       }
    :: may_fail
    fi;
    /* idempotency.receive() waits for whoever is at one of the messages. */
    if
    :: atomic {
#ifdef I2
           connected -> entered = batch & ~now.applied & ~entered_elsewhere
#else
           connected && (batch & entered_elsewhere) == 0 -> entered = batch & ~now.applied
#endif
       }
    :: may_fail
    fi;
    /* The handlers, close_offsets(), COMMIT: what is written shows with the COMMIT only. It succeeds; or the connection
     * is lost after it was sent, or the process killed, and what comes of it turns out later. */
    if
    :: atomic { connected -> commit() }
    :: atomic { connected && may_go_wrong; holder = LATE; put_back(); disconnect(); goto loop }
    :: atomic { connected && may_go_wrong; holder = LATE; die(); goto end_standby }
    :: may_fail
    fi;
    /* batch_succeeded(): marks_done() */
    if
    :: d_step { true -> done[NAME(connection)] = done[NAME(connection)] | batch }
    :: may_die
    fi;
    if
    :: atomic { true ->
           choose_next(); expected = next_offset; next_offset = 0;
           finished = finished | batch; batch = 0;
           finish();
           goto loop }
    :: may_die
    fi
}
