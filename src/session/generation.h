/* generation.h - one answer as a state machine: rows of logits go in, ids and text come out.
 *
 * A generation says through its sequence what it wants evaluated (the pending ids), is given the
 * logits of that, and chooses until it is done. slm_generate is a loop over one, a batch a loop over
 * many. */
#ifndef SLM_SESSION_GENERATION_H
#define SLM_SESSION_GENERATION_H

#include "session/language.h"
#include "session/prompt.h"
#include "session/runner.h"

#define MAX_STOP_STRINGS 16
#define MAX_STOP_BYTES 256

/* Looks for stop strings across pieces: holds back what may be the beginning of one. */
struct stopper {
    const char *const *stop;
    size_t n_stop;
    char held[MAX_STOP_BYTES * 2];
    size_t n_held;
    bool found;
    size_t which;
};

struct generation {
    struct sequence *q;
    slm_generate_options o; /* what it points to is borrowed until the end */
    slm_result r;
    bool done; /* r.finish says why; nothing more is to be evaluated */
    bool speculates;
    uint32_t n_ahead; /* of the pass at hand: ids that have to come, in the place of guesses */
    bool refused; /* a callback said stop, or generation_refuse did */
    struct token_decoder decoder;
    struct think_parser think;
    struct answer_parser *parser; /* in its place where calls are told apart; owned, or NULL */
    int32_t marks[2];             /* ids of the control tokens around calls, which are text here; -1 */
    struct language lang;
    struct stopper stopper;
    struct buf text;
    bool inside;      /* in the thinking block, by ids */
    int32_t *closing; /* ids that close the thinking block when its budget is used up */
    size_t n_closing;
    bool cut_short; /* closed for the model: markers that it writes later are not shown */
    struct slm_likely *top; /* [o.top] for on_choice; owned, or NULL */
};

/* Options as the caller gave them over their defaults, settled; E_ARG as options_copy. */
slm_err generation_options(slm_generate_options *o, const slm_generate_options *given,
                           slm_why *why);
/* What o->prompt (NULL: nothing) says of its answer; E_ARG beside a constraint. */
slm_err generation_settle(slm_generate_options *o, slm_why *why);
/* Starts after the ids that q holds, evaluated or not. Buffers are made here. Whatever it returns,
 * generation_end has to follow. */
slm_err generation_begin(struct generation *g, struct sequence *q, const slm_generate_options *o,
                         slm_why *why);
/* Guesses what may follow the one pending id of q (what has to follow it is a guess that is right), at most `most` ids, into q->guess: they are to be
 * evaluated with it. Returns how many; none when several are pending, when the options say so, or when
 * there is no room for them. */
uint32_t generation_guess(struct generation *g, uint32_t most);
/* Chooses from q->rows what follows the sequence, gives its text to the caller and appends it, as
 * long as what it chose was guessed, and forgets the guesses that were wrong. Every pending id of q
 * must be evaluated. pass_ns: what the pass took, if it was for nothing but writing (0: it was not).
 * Allocates nothing but for a constraint and for calls (language.h, chat/answer.h). E_NUMERIC, E_STATE
 * from the sampler; E_NOMEM, E_BUDGET. */
slm_err generation_take(struct generation *g, uint64_t pass_ns, slm_why *why);
/* It ends as cancelled, before it chooses again. */
void generation_refuse(struct generation *g);
/* Says what was held back, fills r, keeps and saves what was evaluated (prefix.h), and lets go of the
 * buffers. begun: generation_begin was SLM_OK. E_NOMEM: a call that was held is not whole. */
slm_err generation_end(struct generation *g, bool begun, slm_why *why);

#endif
