/* Promela model of the condemn / confirm / doom / discard protocol (docs/garbage-collection.md).
 * One blob "d"; NP pushers on different nodes; NG garbage-collector runs at once.
 * Time is abstracted: WAIT(g) = "all views older than g's last publication have expired";
 * an expired pusher may still WRITE (a zombie) but may not ACK.
 * A discard (delete) is a request that may land at any later moment until it is fenced.
 * Mutants (-DNO_KEEP etc.) must each produce an assertion violation.                      */
#ifndef NP
#define NP 2
#endif
#ifndef NG
#define NG 1
#endif
#ifndef CYCLES
#define CYCLES 2
#endif
#ifndef PUSHES
#define PUSHES 1
#endif
bool data = true;              /* blobs/d/data exists; initially unreferenced garbage          */
bool ref[NP];                  /* revisions/<M_i>/link exists (manifest i references d)         */
bool acked[NP];                /* the client has 201 for manifest i and has not deleted it      */
byte kn = 0;                   /* number of keep notes written so far                           */
bool cond[NG];                 /* run g publishes: d is condemned                               */
bool doom[NG];                 /* run g publishes: d is doomed (delete window open)             */
byte seq[NG];                  /* publication counter of run g                                  */
byte base[NG];                 /* kn at condemnation (notes older than it do not count: LM test) */
bool pend[NG];                 /* a delete request of run g is under way                        */
bool dead[NG];                 /* run g crashed; its published state remains                    */
bool fenced[NG];               /* the store rejects every further discard of run g              */
/* per pusher: the view */
bool infl[NP]; bool ok[NP]; byte sv0[NP]; byte sv1[NP]; bool rd0[NP]; bool rd1[NP];
bool vC[NP]; bool vD[NP];
byte lost = 0;                 /* pushes that failed loudly (statistics)                        */

inline TAKE_VIEW(i) {          /* LIST gc/runs + GET of each: not atomic across runs            */
  atomic { infl[i] = true; ok[i] = true; rd0[i] = false; rd1[i] = false; vC[i] = false; vD[i] = false }
  atomic { rd0[i] = true; sv0[i] = seq[0]; vC[i] = vC[i] || cond[0]; vD[i] = vD[i] || doom[0] }
#if NG > 1
  atomic { rd1[i] = true; sv1[i] = seq[1]; vC[i] = vC[i] || cond[1]; vD[i] = vD[i] || doom[1] }
#endif
}
inline VIEW_NOT_DOOMED(i) {    /* hold the request while d is doomed                             */
  do
  :: TAKE_VIEW(i);
     if
#ifdef NO_HOLD
     :: true -> break
#else
     :: !vD[i] -> break
     :: vD[i] -> infl[i] = false;
#if NG > 1
        (!doom[0] && !doom[1])
#else
        (!doom[0])
#endif
#endif
     fi
  od
}
inline EXPIRE(g) {             /* WAIT: A + D + L has passed since the last publication of g     */
  atomic {
    byte j = 0;
    do
    :: j < NP ->
       if
       :: infl[j] && ((g == 0 && rd0[j] && sv0[j] < seq[0]) || (g == 1 && rd1[j] && sv1[j] < seq[1])) -> ok[j] = false
       :: else
       fi;
       j++
    :: else -> break
    od
  }
}
proctype Pusher(byte i) {
  byte n = 0; bool have;
  do
  :: n < PUSHES ->
     n++;
     /* blob phase: HEAD, and upload when it is not there */
     have = data;
     if
     :: have -> skip                               /* dedup: no upload                         */
     :: else ->
        VIEW_NOT_DOOMED(i);
#ifndef NO_KEEP
        if :: vC[i] -> kn++ :: else fi;
#endif
        data = true;                               /* commit (re-upload under the same key)    */
        infl[i] = false                            /* (ack of the blob PUT; not checked below) */
     fi;
     /* manifest PUT */
     VIEW_NOT_DOOMED(i);
#ifdef KEEP_LAST
     skip;
#else
#ifndef NO_KEEP
     if :: vC[i] -> kn++ :: else fi;               /* keep note BEFORE the links               */
#endif
#endif
     have = data;                                  /* verify existence                          */
     if
     :: !have -> lost++                            /* 400 MANIFEST_BLOB_UNKNOWN, not acked      */
     :: have ->
        ref[i] = true;                             /* revision link                             */
#ifdef KEEP_LAST
        if :: vC[i] -> kn++ :: else fi;
#endif
        atomic {
          if
#ifdef ACK_EXPIRED
          :: true -> acked[i] = true; assert(data)
#else
          :: ok[i] -> acked[i] = true; assert(data)
          :: !ok[i] -> skip                        /* 503: the client must retry                */
#endif
          fi
        }
     fi;
     infl[i] = false;
     /* the user may delete the manifest again */
     if
     :: true -> skip
     :: acked[i] -> acked[i] = false; ref[i] = false
     fi
  :: n >= PUSHES -> break
  od
}
proctype Store(byte g) {       /* lands the delete request of run g at any time                 */
end: do
  :: atomic { pend[g] && fenced[g] -> pend[g] = false }          /* rejected: expired signature / run dir renamed away */
  :: atomic { pend[g] && !fenced[g] -> data = false; pend[g] = false;
              assert(!acked[0]);
#if NP > 1
              assert(!acked[1]);
#endif
     }
  od
}
inline MARK(live) {            /* one link at a time, not a snapshot                             */
  live = false;
  live = live || ref[0];
#if NP > 1
  live = live || ref[1];
#endif
}
proctype GC(byte g) {
  byte c = 0; bool live;
  do
  :: c < CYCLES ->
     c++;
     MARK(live);
     if
     :: live || !data -> skip
     :: else ->
        atomic { cond[g] = true; base[g] = kn; seq[g]++ }      /* publish: condemned             */
#ifndef NO_WAIT1
        EXPIRE(g);
#endif
#ifndef NO_CONFIRM
        MARK(live);                                            /* confirm with a second mark     */
#else
        live = false;
#endif
        if
        :: live -> atomic { cond[g] = false; seq[g]++ }
        :: else ->
           if
           :: true -> skip
           :: true -> dead[g] = true; goto crashed              /* crash while condemned          */
           fi;
           atomic { doom[g] = true; seq[g]++ }                  /* publish: doomed                */
#ifndef NO_WAIT2
           EXPIRE(g);
#endif
           if
           :: kn > base[g] -> atomic { cond[g] = false; doom[g] = false; seq[g]++ }
           :: else ->
              pend[g] = true;                                   /* discard request                */
              if
              :: true -> skip
              :: true -> dead[g] = true; goto crashed            /* crash with a delete under way  */
              fi;
#ifndef UNDOOM_EARLY
              (!pend[g]);                                       /* wait for its outcome           */
#endif
              atomic { cond[g] = false; doom[g] = false; seq[g]++ }
           fi
        fi
     fi
  :: c >= CYCLES -> break
  od;
  goto done;
crashed:                       /* takeover by a node or by the next run, after Z                  */
#ifndef NO_FENCE
  fenced[g] = true;            /* FENCE: from here on the store rejects g's old requests          */
#endif
  atomic { cond[g] = false; doom[g] = false; seq[g]++; dead[g] = false }
done: skip
}
#ifdef PAUSE
/* a node (or another run) takes over a run that is only SLOW: the run goes on, unaware of it */
proctype Takeover(byte g) {
endt0: (cond[g] || doom[g]);
#ifndef NO_FENCE
  fenced[g] = true;
#endif
  atomic { cond[g] = false; doom[g] = false; seq[g]++ };
endt: do :: atomic { (cond[g] || doom[g]) -> cond[g] = false; doom[g] = false; seq[g]++ } od
}
#endif
init { atomic {
  byte k = 0;
  do :: k < NP -> run Pusher(k); k++ :: else -> break od;
  k = 0;
  do :: k < NG -> run GC(k); run Store(k);
#ifdef PAUSE
     run Takeover(k);
#endif
     k++ :: else -> break od
} }
