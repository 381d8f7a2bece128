/* fuzz_mcp.c - what servers of tools write: messages, event streams cut at a place that the input tells,
 * marked schemas. The readers belong to the program, not to the library, so they are compiled in here.
 *
 * Checked beyond crashes: a message that is accepted is accepted again when it is written, an event
 * stream gives the same events whole and in two pieces, and answers of ours are messages. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rpc.h"
#include "base/json.h"

/* the program's own, which end it when there is no memory */
void *keep(void *p);
char *text_printf(const char *format, ...);

#include "agent/mirror.c" /* NOLINT */
#include "agent/rpc.c"    /* NOLINT */
#include "agent/sse.c"    /* NOLINT */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool truth) {
    if (!truth)
        abort();
}

void *keep(void *p) {
    expect(p != NULL);
    return p;
}

char *text_printf(const char *format, ...) {
    va_list list;
    char text[70000];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return keep(strdup(text));
}

static void messages(const char *text, size_t n) {
    struct rpc_message m, again;
    slm_why why;
    if (rpc_read(text, n, &m, &why) != SLM_OK)
        return;
    expect(m.kind == RPC_NOTIFICATION || m.kind == RPC_ERROR || m.id != NULL);
    char *dump = json_dumps(m.doc, JSON_COMPACT);
    if (dump) {
        expect(rpc_read(dump, strlen(dump), &again, &why) == SLM_OK && again.kind == m.kind);
        rpc_free(&again);
        free(dump);
    }
    if (m.kind == RPC_REQUEST) {
        char *reply = rpc_error(m.id, RPC_NO_METHOD, "no");
        expect(reply && rpc_read(reply, strlen(reply), &again, &why) == SLM_OK &&
               again.kind == RPC_ERROR && json_equal(again.id, m.id));
        rpc_free(&again);
        free(reply);
    }
    const json_t *params = m.kind == RPC_RESULT ? m.result : m.params;
    struct mirror lines = { NULL, 0 };
    mirror_arguments(json_object_get(params, "inputSchema"), json_object_get(params, "arguments"), &lines,
                     &why);
    for (size_t i = 0; i < lines.n; i++) /* a header is one line */
        expect(strpbrk(lines.lines[i], "\r\n") == NULL);
    mirror_free(&lines);
    rpc_free(&m);
}

static bool collect(void *user, const char *data, size_t n) {
    buf_put(user, data, n);
    buf_putc(user, '\n');
    return true;
}

static slm_err stream(const char *text, size_t n, size_t cut, struct buf *got) {
    struct sse s;
    sse_init(&s, 4096);
    slm_err err = sse_feed(&s, text, cut, collect, got);
    if (err == SLM_OK)
        err = sse_feed(&s, text + cut, n - cut, collect, got);
    sse_free(&s);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    struct buf whole, pieces;
    if (size > 60000)
        return 0;
    messages(text, size);
    buf_init(&whole, NULL, 1 << 20);
    buf_init(&pieces, NULL, 1 << 20);
    slm_err a = stream(text, size, 0, &whole);
    slm_err b = stream(text, size, size ? data[0] % (size + 1) : 0, &pieces);
    expect(a == b);
    expect(a != SLM_OK || (whole.len == pieces.len &&
                           (!whole.len || memcmp(whole.data, pieces.data, whole.len) == 0)));
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
