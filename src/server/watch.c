/* watch.c - connections: who has one, who has left, and who takes too long.
 *
 * The HTTP library does not look at a connection that waits for us, so a client that leaves would not
 * be noticed; and its time-outs start anew with each byte. So every socket is in an epoll set of our own
 * too, which tells of the peer's FIN at once, and each phase of a request has a total of its own. A
 * connection that is over its time is shut down here and closed by its owner, who reads the end of it;
 * the lock keeps the descriptor from being closed and reused in between. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/core.h"

enum { TICK_MS = 250, EVENTS_AT_ONCE = 64 };

/* ------------------------------------------------------------------ per address */

/* IPv4 inside IPv6 is one peer with the same address outside; of IPv6 the first 64 bits count. */
static size_t peer_key(const struct sockaddr *a, unsigned char out[16]) {
    static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
    memset(out, 0, 16);
    if (a->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, a, sizeof v4);
        memcpy(out, &v4.sin_addr, 4);
        return 4;
    }
    if (a->sa_family != AF_INET6)
        return 0;
    struct sockaddr_in6 v6;
    memcpy(&v6, a, sizeof v6);
    if (memcmp(&v6.sin6_addr, mapped, sizeof mapped) == 0) {
        memcpy(out, (const char *)&v6.sin6_addr + 12, 4);
        return 4;
    }
    static const unsigned char one[16] = { [15] = 1 };
    bool loopback = memcmp(&v6.sin6_addr, one, 16) == 0;
    memcpy(out, &v6.sin6_addr, loopback ? 16 : 8);
    return loopback ? 16 : 8;
}

static bool is_local(const unsigned char key[16], size_t n) {
    return n == 0 || n == 16 || (n == 4 && key[0] == 127);
}

bool watch_allows(struct watch *w, const struct sockaddr *peer) {
    const struct server_options *o = &w->server->options;
    unsigned char key[16], other[16];
    size_t n = peer_key(peer, key), same = 0;
    uint32_t most = o->connections_per_ip ? o->connections_per_ip : 32;
    if (!o->connections_per_ip && is_local(key, n))
        return true;
    pthread_mutex_lock(&w->lock);
    for (struct connection *c = w->first; c; c = c->next)
        same += peer_key((const struct sockaddr *)&c->peer, other) == n && memcmp(key, other, 16) == 0;
    pthread_mutex_unlock(&w->lock);
    return same < most;
}

/* ------------------------------------------------------------------ the list */

struct connection *watch_add(struct watch *w, int fd, const struct sockaddr *peer) {
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->fd = fd;
    c->phase = CONNECTION_HEAD;
    c->since_ns = clock_ns();
    if (peer)
        memcpy(&c->peer, peer, peer->sa_family == AF_INET6  ? sizeof(struct sockaddr_in6)
                               : peer->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                            : sizeof(sa_family_t));
    pthread_mutex_lock(&w->lock);
    c->number = ++w->last_number;
    c->next = w->first;
    if (w->first)
        w->first->prev = c;
    w->first = c;
    w->n++;
    struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = c->number };
    epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event);
    pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_remove(struct watch *w, struct connection *c) {
    pthread_mutex_lock(&w->lock);
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->prev)
        c->prev->next = c->next;
    else
        w->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    w->n--;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void watch_phase(struct watch *w, struct connection *c, enum connection_phase phase,
                 struct exchange *x) {
    pthread_mutex_lock(&w->lock);
    c->phase = phase;
    c->since_ns = clock_ns();
    c->bytes = 0;
    c->exchange = x;
    bool gone = c->gone && x != NULL;
    pthread_mutex_unlock(&w->lock);
    if (gone)
        exchange_leave(x);
}

void watch_leave_all(struct watch *w) {
    pthread_mutex_lock(&w->lock);
    for (struct connection *c = w->first; c; c = c->next)
        if (c->exchange)
            exchange_leave(c->exchange);
    pthread_mutex_unlock(&w->lock);
}

void watch_received(struct watch *w, struct connection *c, size_t n) {
    pthread_mutex_lock(&w->lock);
    c->bytes += n;
    pthread_mutex_unlock(&w->lock);
}

/* ------------------------------------------------------------------ deadlines */

/* Other threads begin phases while this one looks, so `since` may lie behind `now`. */
static uint64_t passed(uint64_t now, uint64_t since) {
    return now > since ? now - since : 0;
}

/* With the lock held. */
static void cut(struct watch *w, struct connection *c, bool slow) {
    if (c->cut)
        return;
    c->cut = true;
    atomic_fetch_add(slow ? &w->server->meter.cut_slow : &w->server->meter.cut_deadline, 1);
    shutdown(c->fd, SHUT_RDWR);
    if (c->exchange)
        exchange_leave(c->exchange);
}

static uint64_t body_seconds(const struct connection *c) {
    uint64_t seconds = BODY_SECONDS + c->bytes / 1024;
    return seconds < BODY_SECONDS_MOST ? seconds : BODY_SECONDS_MOST;
}

/* Whether a client has left bytes lying for so long that it is not waited for. */
static bool reads_slowly(struct exchange *x, uint64_t now) {
    pthread_mutex_lock(&x->lock);
    bool slow = x->answered && x->out.len > x->sent &&
                passed(now, x->taken_ns) > REPLY_SECONDS * UINT64_C(1000000000);
    slow |= x->streams && x->out.len - x->sent > UNSENT_MOST;
    pthread_mutex_unlock(&x->lock);
    return slow;
}

static void check(struct watch *w, struct connection *c, uint64_t now) {
    uint64_t seconds = passed(now, c->since_ns) / 1000000000;
    switch (c->phase) {
    case CONNECTION_HEAD:
        if (seconds >= HEAD_SECONDS)
            cut(w, c, false);
        break;
    case CONNECTION_BODY:
        if (seconds >= body_seconds(c))
            cut(w, c, false);
        break;
    case CONNECTION_IDLE:
        if (seconds >= IDLE_SECONDS)
            cut(w, c, false);
        break;
    case CONNECTION_WORK:
        if (c->exchange && reads_slowly(c->exchange, now))
            cut(w, c, true);
        break;
    case CONNECTION_REPLY: /* short answers of the server itself */
        if (seconds >= 2 * REPLY_SECONDS)
            cut(w, c, true);
        break;
    }
}

/* ------------------------------------------------------------------ the thread */

/* Between the event and the lock the connection may have been removed, and another one have come into
 * its memory and its descriptor: so events name it by a number that is nobody else's. */
static void peer_left(struct watch *w, uint64_t number) {
    for (struct connection *c = w->first; c; c = c->next)
        if (c->number == number) {
            c->gone = true; /* told only once, perhaps before its request was read */
            if (c->exchange)
                exchange_leave(c->exchange);
        }
}

static void *watch_thread(void *arg) {
    struct watch *w = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t last = clock_ns();
    while (!atomic_load(&w->stop)) {
        int n = epoll_wait(w->epoll, events, EVENTS_AT_ONCE, TICK_MS);
        uint64_t now = clock_ns();
        pthread_mutex_lock(&w->lock);
        for (int i = 0; i < n; i++)
            peer_left(w, events[i].data.u64); /* 0 is the wake-up */
        if (now - last >= TICK_MS * UINT64_C(1000000)) {
            for (struct connection *c = w->first; c; c = c->next)
                check(w, c, now);
            last = now;
        }
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

bool watch_start(struct watch *w, struct server *s) {
    w->server = s;
    pthread_mutex_init(&w->lock, NULL);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0 };
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) != 0)
        return false;
    w->started = pthread_create(&w->thread, NULL, watch_thread, w) == 0;
    return w->started;
}

void watch_stop(struct watch *w) {
    uint64_t one = 1;
    atomic_store(&w->stop, true);
    if (w->started) {
        ssize_t ignored = write(w->wake, &one, sizeof one);
        (void)ignored;
        pthread_join(w->thread, NULL);
        w->started = false;
    }
    if (w->epoll > 0)
        close(w->epoll);
    if (w->wake > 0)
        close(w->wake);
}
