/* core.h - the structs that the files of the server share. Nothing outside src/server includes this. */
#ifndef SLM_SERVER_CORE_H
#define SLM_SERVER_CORE_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>

#include "base/pool.h"
#include "cli/cli.h"
#include "server/api.h"
#include "server/gate.h"
#include "server/keys.h"
#include "server/meter.h"
#include "server/pace.h"
#include "server/page.h"
#include "server/server.h"

enum {
    ID_TEXT = 25,              /* "req_" and 20 letters and digits, and a zero byte */
    HEADERS_MOST = 12,         /* of an answer, beyond the fixed ones */
    UNSENT_MOST = 1 << 20,     /* bytes of a stream that nobody reads: the client is cut off */
    HEAD_SECONDS = 10,         /* for a request's headers, from its first byte or the connection's start */
    BODY_SECONDS = 30,         /* for its body, and a second more for each KiB that came */
    BODY_SECONDS_MOST = 600,
    IDLE_SECONDS = 75,         /* of a connection between two requests */
    REPLY_SECONDS = 30,        /* without a byte taken by the client */
    PING_SECONDS = 15,
    DRAIN_BODY_MOST = 256 << 10, /* body of a refused request that is read all the same, so that the
                                    answer is not lost in a reset */
    WORKERS = 4
};

/* ------------------------------------------------------------------ connections (watch.c) */

enum connection_phase { CONNECTION_HEAD, CONNECTION_BODY, CONNECTION_WORK, CONNECTION_REPLY, CONNECTION_IDLE };
/* One TCP connection, from accept to close. All under the watcher's lock but fd and peer. */
struct connection {
    struct connection *next, *prev;
    uint64_t number; /* from 1 on, never used again */
    int fd;
    struct sockaddr_storage peer;
    enum connection_phase phase;
    uint64_t since_ns;   /* when the phase began */
    uint64_t bytes;      /* of the body so far */
    struct exchange *exchange; /* at hand, or NULL */
    bool cut;  /* by us */
    bool gone; /* the peer has closed its side: what it has asked yet is left at once */
};
struct watch {
    struct server *server;
    pthread_t thread;
    bool started;
    int epoll, wake; /* eventfd */
    pthread_mutex_t lock;
    struct connection *first;
    size_t n;
    uint64_t last_number;
    atomic_bool stop;
};
bool watch_start(struct watch *w, struct server *s);
void watch_stop(struct watch *w);
/* May this peer have another connection? Counts nothing: watch_add does. */
bool watch_allows(struct watch *w, const struct sockaddr *peer);
struct connection *watch_add(struct watch *w, int fd, const struct sockaddr *peer);
void watch_remove(struct watch *w, struct connection *c);
void watch_phase(struct watch *w, struct connection *c, enum connection_phase phase,
                 struct exchange *x);
/* Everybody is to go: what is at hand is left. */
void watch_leave_all(struct watch *w);
void watch_received(struct watch *w, struct connection *c, size_t n);

/* ------------------------------------------------------------------ an exchange (exchange.c) */

/* One sequence of an exchange. */
struct lane {
    struct exchange *exchange;
    size_t index;
    const int32_t *ids; /* [n_ids] of a prompt or the call */
    size_t n_ids;
    slm_generate_options options;
    float *hidden;   /* [hidden] for embeddings, else NULL */
    uint64_t request; /* of the batch while it runs, else 0 */
    uint64_t started_ns, first_ns, last_ns;
    _Atomic uint32_t prompt_done, output;
};

enum exchange_stage { STAGE_NEW, STAGE_WORK, STAGE_LOAD, STAGE_QUEUE, STAGE_RUN, STAGE_DONE };

/* A request and its answer. Reference counted: the connection holds it until the request is completed,
 * and whoever works on it does meanwhile. */
struct exchange {
    struct server *server;
    _Atomic unsigned refs;
    char id[ID_TEXT];
    uint64_t arrived_ns, deadline_ns;
    int64_t created_ns; /* since the epoch */

    /* the request; constant once it is handed to a worker */
    const struct api_route *route;
    char name[512]; /* in the place of the route's star, or "" */
    bool has_name;
    char *path; /* as it came, for the log */
    const char *method; /* static */
    struct key *key;
    uint64_t salt; /* of the prompt cache: another one for each key, unless they share it */
    atomic_bool key_entered; /* the key's allowances hold this request */
    char client[INET6_ADDRSTRLEN];
    struct buf body;
    bool has_body, too_large, http_1_0;

    /* the answer: under the lock */
    pthread_mutex_t lock;
    struct MHD_Connection *http; /* NULL when the request is completed */
    struct connection *connection;
    bool suspended; /* the connection waits for us */
    bool answered;  /* status and headers stand */
    bool streams, ended, cut;
    int status;
    const char *type;
    struct exchange_header {
        char name[40];
        char value[1024];
    } headers[HEADERS_MOST];
    size_t n_headers;
    struct buf out;
    size_t sent;         /* of out, handed to the connection */
    uint64_t taken_ns;   /* when the client last took something */

    /* the work: of one thread at a time, the worker's and then the model's */
    _Atomic enum exchange_stage stage;
    atomic_bool left; /* the client is gone or was cut: stop */
    struct exchange *next; /* in the list of a worker, of a load, of a model's queue */
    struct api_call call;
    bool has_call;
    struct served_model *model;     /* held; of the thread that works on it */
    struct served_model *queued_at; /* the same from admission to the end, under the lock */
    bool load_waited;
    slm_image *images[API_IMAGES_MOST]; /* [n_images] of the call's, as far as they are open */
    size_t n_images;
    slm_prompt **prompts; /* [n_prompts] of slm_prompt_make, NULL where raw */
    int32_t **encoded;    /* [n_prompts] owned by the engine (slm_free), or NULL */
    size_t *prompt_tokens;/* [n_prompts] */
    slm_constraint *constraint;
    struct lane *lanes; /* [n_lanes] */
    size_t n_lanes, next_lane, lanes_running, lanes_done;
    struct api_facts facts;
    struct api_reply *reply;
    struct api_error error; /* of the first lane that failed */
    bool failed;
    uint64_t queued_ns, ping_ns, load_ns;
    size_t waiting_tokens; /* counted in the model's queue */
    uint64_t tokens_in, tokens_out, tokens_cached; /* for the log and the key's allowance */
    const char *finish;
    char model_name[96]; /* for the log, which is written when the model has been let go */
};
struct exchange *exchange_new(struct server *s);
void exchange_ref(struct exchange *x);
void exchange_unref(struct exchange *x);
/* Everything but the answer's bytes; lets the model go. By the thread that works on it. */
void exchange_drop_work(struct exchange *x);
/* The client is gone, or is not waited for any longer. From any thread. */
void exchange_leave(struct exchange *x);
static inline bool exchange_left(const struct exchange *x) {
    return atomic_load_explicit(&x->left, memory_order_relaxed);
}
void exchange_header(struct exchange *x, const char *name, const char *format, ...)
    ATTR_PRINTF(3, 4);
/* Whole answers. body is taken and left empty; one that failed becomes 500. */
void exchange_reply(struct exchange *x, int status, const char *type, struct buf *body);
void exchange_error(struct exchange *x, const struct api_error *e);
/* Streams: status and headers now, bytes as they come, and the end. */
void exchange_stream(struct exchange *x, const char *type);
void exchange_write(struct exchange *x, struct buf *bytes); /* leaves it empty */
void exchange_end(struct exchange *x);

/* ------------------------------------------------------------------ workers (work.c) */

struct workers {
    struct server *server;
    pthread_t threads[WORKERS];
    unsigned n;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct exchange *first, *last;
    size_t waiting;
    bool stop;
};
bool workers_start(struct workers *w, struct server *s);
void workers_stop(struct workers *w);
/* Takes over a reference. */
void workers_give(struct workers *w, struct exchange *x);
size_t workers_waiting(struct workers *w);

/* ------------------------------------------------------------------ models (registry.c, drive.c) */

enum model_state { MODEL_ON_DISK, MODEL_LOADING, MODEL_LOADED, MODEL_UNLOADING };

struct served_model {
    struct served_model *next;
    struct server *server;
    char *name; /* as clients ask for it */
    struct found found;
    const char *title;   /* of the catalog, or NULL */
    uint64_t file_bytes;
    int64_t modified_ns;
    bool listed; /* on the command line: loaded at the start, and again when asked for */

    /* under the registry's lock */
    enum model_state state;
    unsigned refs;         /* exchanges and views that use it: it stays */
    bool retire;           /* to be unloaded as soon as nobody uses it */
    uint64_t bytes;        /* planned; counted while loading, loaded, unloading */
    uint64_t used_ns;      /* clock_ns of the last use */
    int64_t keep_s;        /* of a request's keep_alive; -1 for ever; INT64_MIN: the server's */
    struct exchange *waiters; /* for its loading */
    struct api_error failure; /* of the last load; status 0: none */
    slm_err load_err;         /* the same, and why, for the command line */
    slm_why why;
    bool tried;               /* a load has ended, well or not */
    uint64_t failed_ns, load_ns;
    int64_t loaded_s;         /* since the epoch */
    pthread_t thread;
    bool thread_started, thread_ended;

    /* constant while loaded */
    slm_engine *engine;
    slm_info info;
    slm_batch *batch;
    uint32_t context, places;
    char identity[33], fingerprint[24];

    /* under its own lock */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct exchange *queue, *queue_last;
    size_t n_waiting, waiting_tokens, n_running; /* exchanges that wait; their tokens; lanes in places */
    struct exchange *running; /* the thread's own: those with a lane that has or had a place */
    struct lane **placed;     /* [places] */
    bool stop;
    bool stepping; /* a pass is at hand */
    bool all_left; /* which was told to stop, because nobody waits for what runs */
    _Atomic uint64_t step_ns; /* when the pass at hand began; 0: none */
    struct pace pace;
    _Atomic uint64_t prompt_tokens, output_tokens;
};

struct registry {
    struct server *server;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a model was loaded, unloaded or let go */
    struct served_model *first;
    size_t n;
    uint64_t scanned_ns;
    atomic_bool closing;
};
/* Finds the listed models and those on disk; loads none. An exit code, reported. */
int registry_open(struct registry *r, struct server *s, const char *const *models, size_t n);
/* Begins to load the models of the command line. */
void registry_load_listed(struct registry *r);
enum load_state { LOADS_GO_ON, LOADS_DONE, LOADS_FAILED };
enum load_state registry_listed(struct registry *r, struct served_model **failed);
/* Loads nothing any more, waits until nobody uses a model, and unloads them all. */
void registry_close(struct registry *r);
/* After that: frees everything. */
void registry_stop(struct registry *r);
enum acquired { ACQUIRED, ACQUIRE_WAITS, ACQUIRE_FAILED };
/* Takes a reference to the model for x (x->model), begins to load it when it is not. WAITS: x will be
 * given to the workers again; the registry keeps a reference of its own to it. */
enum acquired registry_acquire(struct registry *r, const char *name, struct exchange *x,
                               struct api_error *e);
void registry_release(struct registry *r, struct served_model *m);
/* Gives back what world_open took: a look is no use. */
void registry_unview(struct registry *r, struct served_model *m);
/* What Ollama's keep_alive says: from now on it is kept so long after its last use. */
void registry_keep(struct registry *r, struct served_model *m, int64_t seconds);
/* Unloads what was not used for long enough. */
void registry_idle(struct registry *r);
/* The listed models are loaded, no queue is full, no pass hangs; else *why, in words. */
bool registry_ready(struct registry *r, const char **why);
/* How long the model stays after its last use; -1: for ever. With the lock held. */
int64_t registry_keep_seconds(const struct served_model *m);

/* drive.c: what a model's thread does; returns when stopped and nothing runs. */
void drive_run(struct served_model *m);
void drive_stop(struct served_model *m);
/* Admits an exchange with its lanes, or says why not. Takes over a reference when admitted. */
bool drive_admit(struct served_model *m, struct exchange *x, struct api_error *e);
void drive_wake(struct served_model *m);
/* Cancels what runs for x. From any thread; the model must be held. */
void drive_cancel(struct served_model *m, struct exchange *x);

/* ------------------------------------------------------------------ the server (serve.c) */

struct server {
    struct cli *cli;
    struct server_options options;
    struct gate gate;
    char self[256];
    struct keys keys;
    bool has_keys;
    struct meter meter;
    struct watch watch;
    struct workers workers;
    struct registry registry;
    struct MHD_Daemon *daemon;
    struct page *page; /* NULL: none is served */
    uint16_t port;
    int64_t start_s;
    atomic_bool draining; /* new requests are refused, ready says no */
    atomic_bool ending;   /* readiness is gone, requests are still taken */
    atomic_bool stop_now; /* what runs ends with an error */
    _Atomic uint64_t exchanges; /* alive */
    _Atomic uint64_t last_id;
    uint8_t id_key[32];
    char *tls_cert, *tls_key; /* their text */
};
bool http_start(struct server *s);
void http_quiesce(struct server *s);
void http_stop(struct server *s);

/* One JSON line on standard error. The text is a JSON object's inside: "\"k\":1,...". */
void log_event(struct server *s, const char *event, const char *format, ...) ATTR_PRINTF(3, 4);
/* s as JSON string literal into text[size], cut to fit. */
const char *log_quote(const char *s, char *text, size_t size);
void log_exchange(struct exchange *x);
/* The body of a request, when the prompts are to be logged. */
void log_body(const struct exchange *x);

/* routes.c: the server's own routes, and the world as api_inform wants it */
enum own_route { OWN_NONE, OWN_HEALTH, OWN_READY, OWN_METRICS, OWN_PAGE };
enum own_route own_route_find(struct server *s, const char *method, const char *path,
                              const char *accept, bool *known);
bool own_route_public(enum own_route route);
void own_route_answer(struct server *s, enum own_route route, int *status, const char **type,
                      struct buf *out);
bool server_ready(struct server *s, const char **why);
/* What api_inform wants to know. Returns false without memory. The view holds loaded models. */
struct world_view {
    struct api_world world;
    struct api_model *models;
    struct api_slot *slots;
    struct served_model **held;
    size_t n_held;
};
bool world_open(struct server *s, struct world_view *v);
/* Whether the i-th model is the one that a call means: the one it holds, or the name it has. */
bool world_is(const struct world_view *v, size_t i, const struct served_model *held,
              const char *name);
void world_close(struct server *s, struct world_view *v);

#endif
