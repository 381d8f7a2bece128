/* cmd_deploy.c - `slm deploy haproxy|systemd|container`: files for running the server beyond a terminal,
 * on standard output.
 *
 * systemd: packaging/slm.service with some of its lines replaced: the path of this program, models and
 * address, keys, and what that address allows. container: packaging/Containerfile as it is. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/deploy.h"
#include "server/gate.h"

extern const char deploy_service[], deploy_service_end[], deploy_container[],
    deploy_container_end[];

enum { PORT = 8080, FIRST_FREE_PORT = 1024 };

bool deploy_plain(const char *text) {
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (*s < 0x20 || *s == 0x7f || *s == '"' || *s == '\\' || *s == '\'')
            return false;
    return true;
}

/* ------------------------------------------------------------------ systemd */

/* A word of a command line in a unit: quoted, with the two characters that systemd expands doubled. */
static void put_word(struct buf *b, const char *word) {
    buf_puts(b, " \"");
    for (; *word; word++) {
        if (*word == '%' || *word == '$')
            buf_putc(b, *word);
        buf_putc(b, *word);
    }
    buf_putc(b, '"');
}

/* Path of this program, or where it is usually installed. Returns owned. */
static char *own_path(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || (size_t)n >= sizeof path - 1)
        return text_printf("/usr/local/bin/slm");
    path[n] = '\0';
    return text_printf("%s", path);
}

struct unit {
    const char *program, *host, *keys;
    int port;
    bool loopback;
    const char *const *models; /* [n_models] */
    size_t n_models;
};

static void put_command(const struct unit *u, struct buf *b) {
    buf_puts(b, "ExecStart=");
    buf_puts(b, u->program); /* checked: no characters that would want quotes */
    buf_puts(b, " serve");
    for (size_t i = 0; i < u->n_models; i++)
        put_word(b, u->models[i]);
    buf_printf(b, " --host %s --port %d\n", u->host, u->port);
}

static bool begins(const char *line, size_t n, const char *what) {
    return n >= strlen(what) && memcmp(line, what, strlen(what)) == 0;
}

/* What stands for a line [n] of the unit; false: the line as it is. */
static bool replace_line(const struct unit *u, const char *line, size_t n, struct buf *b) {
    const bool low = u->port > 0 && u->port < FIRST_FREE_PORT;
    if (begins(line, n, "ExecStart="))
        put_command(u, b);
    else if (u->keys && begins(line, n, "#LoadCredential="))
        buf_printf(b, "LoadCredential=slm-keys:%s\n", u->keys);
    else if (!u->loopback && begins(line, n, "IPAddress"))
        return true; /* left out: everybody may come, with a key */
    else if (low && begins(line, n, "CapabilityBoundingSet="))
        buf_puts(b, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n");
    else if (low && begins(line, n, "AmbientCapabilities="))
        buf_puts(b, "AmbientCapabilities=CAP_NET_BIND_SERVICE\n");
    else if (low && begins(line, n, "PrivateUsers="))
        buf_puts(b, "PrivateUsers=no\n"); /* ports are a right of the machine's own users */
    else
        return false;
    return true;
}

static int print_unit(struct cli *c, const struct unit *u) {
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    for (const char *s = deploy_service; s < deploy_service_end;) {
        const char *end = memchr(s, '\n', (size_t)(deploy_service_end - s));
        end = end ? end + 1 : deploy_service_end;
        if (!replace_line(u, s, (size_t)(end - s), &b))
            buf_put(&b, s, (size_t)(end - s));
        s = end;
    }
    bool ok = b.err == SLM_OK;
    if (ok)
        out_write(&c->out, b.data, b.len);
    buf_free(&b);
    return ok ? EXIT_DONE : report(c, EXIT_COULD_NOT, "E_NOMEM", NULL, "out of memory");
}

/* A path that a unit can name without quotes. */
static bool simple_path(const char *path) {
    return path[0] == '/' && deploy_plain(path) && strpbrk(path, " %$") == NULL;
}

static int systemd_unit(struct cli *c) {
    const char *host = opt_set(c, OPT_HOST) ? opt_text(c, OPT_HOST) : "127.0.0.1";
    const char *keys = opt_text(c, OPT_KEYS);
    const struct unit u = {
        .program = keep(own_path()),
        .host = host,
        .port = (int)opt_int(c, OPT_PORT, PORT),
        .keys = keys,
        .loopback = gate_is_loopback(host),
        .models = c->options.args + 1,
        .n_models = c->options.n_args - 1,
    };
    int code = EXIT_DONE;
    for (size_t i = 0; i < u.n_models && code == EXIT_DONE; i++)
        if (!deploy_plain(u.models[i]))
            code = report_usage(c, NULL, "quotes, backslashes and control characters cannot be in "
                                         "a model's name in a unit");
    if (code == EXIT_DONE && (!deploy_plain(host) || strpbrk(host, " %$")))
        code = report_usage(c, NULL, "--host wants an address");
    if (code == EXIT_DONE && !u.loopback && keys == NULL)
        code = report_usage(c, "--keys /etc/slm/keys    lines of NAME KEY",
                            "--host %s can be reached from other machines and there is no key",
                            host);
    if (code == EXIT_DONE && keys && !simple_path(keys))
        code = report_usage(c, "--keys /etc/slm/keys",
                            "--keys wants a path from the root without spaces");
    if (code == EXIT_DONE && !simple_path(u.program))
        code = report(c, EXIT_COULD_NOT, "E_ARG", "make install", "%s cannot stand in a unit",
                      u.program);
    if (code == EXIT_DONE)
        code = print_unit(c, &u);
    if (code == EXIT_DONE &&
        (strncmp(u.program, "/home/", 6) == 0 || strncmp(u.program, "/root/", 6) == 0 ||
         strncmp(u.program, "/tmp/", 5) == 0))
        note(c, "the service sees no homes and a /tmp of its own: install %s elsewhere first",
             u.program);
    free((char *)(uintptr_t)u.program);
    return code;
}

/* ------------------------------------------------------------------ the command */

static int container_file(struct cli *c) {
    out_write(&c->out, deploy_container, (size_t)(deploy_container_end - deploy_container));
    return EXIT_DONE;
}

/* An option that the target does not have is an error, not something left out. */
static int only_for(struct cli *c, enum option_id id, const char *name, const char *target,
                    const char *wanted) {
    return opt_set(c, id) && strcmp(target, wanted) != 0
               ? report_usage(c, NULL, "--%s is for slm deploy %s", name, wanted)
               : EXIT_DONE;
}

int cmd_deploy(struct cli *c) {
    static const struct {
        const char *name;
        int (*run)(struct cli *);
        bool more; /* takes models */
    } targets[] = {
        { "haproxy", deploy_haproxy, false },
        { "systemd", systemd_unit, true },
        { "container", container_file, false },
    };
    static const struct {
        enum option_id id;
        const char *name, *target;
    } rows[] = {
        { OPT_SERVERS, "servers", "haproxy" },         { OPT_SERVERS_CA, "servers-ca", "haproxy" },
        { OPT_READ_AHEAD, "read-ahead", "haproxy" },   { OPT_STATS_PORT, "stats-port", "haproxy" },
        { OPT_QUEUE_TIME, "queue-time", "haproxy" },   { OPT_PARALLEL, "parallel", "haproxy" },
        { OPT_TIMEOUT, "timeout", "haproxy" },         { OPT_TLS_CERT, "tls-cert", "haproxy" },
        { OPT_KEYS, "keys", "systemd" },
    };
    const char *target = c->options.args[0];
    int code = EXIT_DONE;
    for (size_t i = 0; i < ARRAY_LEN(rows) && code == EXIT_DONE; i++)
        code = only_for(c, rows[i].id, rows[i].name, target, rows[i].target);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (strcmp(targets[i].name, target) != 0)
            continue;
        if (code == EXIT_DONE && c->options.n_args > 1 && !targets[i].more)
            code = report_usage(c, NULL, "slm deploy %s takes options only", target);
        return code == EXIT_DONE ? targets[i].run(c) : code;
    }
    return report_usage(c, "slm deploy haproxy --servers a:8080,b:8080\nslm deploy systemd MODEL\n"
                           "slm deploy container",
                        "there is nothing to deploy that is called '%s'", target);
}
