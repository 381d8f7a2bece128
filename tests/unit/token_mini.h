/* token_mini.h - small tokenizers for the unit tests, as tokenizer.json texts made on the spot. */
#ifndef SLM_TESTS_TOKEN_MINI_H
#define SLM_TESTS_TOKEN_MINI_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "token/token.h"

#define QWEN2_PATTERN                                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"      \
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

struct mini {
    const char *added;         /* list of added tokens as JSON, or NULL */
    const char *normalizer;    /* JSON, or NULL for null (byte-level), Replace (SPM) */
    const char *pattern;       /* byte-level: split pattern, NULL for none */
    const char *post;          /* post_processor as JSON, or NULL */
    const char *options;       /* members of the model, each with a comma behind, or NULL */
    const char *const *extra;  /* further vocabulary entries, NULL at the end; may be NULL */
    const char *const *merges; /* "a b", NULL at the end; may be NULL */
    bool spm;
};

/* The character that the byte alphabet has for a byte. */
static inline uint32_t mini_alphabet(unsigned byte) {
    if ((byte > 32 && byte < 127) || (byte > 160 && byte != 173))
        return byte;
    return byte <= 32 ? 256 + byte : byte < 173 ? 256 + 33 + byte - 127 : 256 + 67;
}

/* Vocabulary: byte-level 0..255 the bytes; SPM 0 <unk>, 1..256 the byte tokens; then the extra
 * entries. The result has a zero byte at the end and is freed with free(). */
static inline char *mini_json(const struct mini *m) {
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf b;
    buf_init(&b, &hooks, (size_t)1 << 28);
    buf_printf(&b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,",
               m->added != NULL ? m->added : "[]");
    buf_printf(&b, "\"normalizer\":%s,\"pre_tokenizer\":",
               m->normalizer != NULL ? m->normalizer
               : m->spm
                   ? "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}"
                   : "null");
    if (m->spm)
        buf_puts(&b, "null");
    else if (m->pattern != NULL) {
        buf_puts(&b, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                     "{\"Regex\":");
        json_quote(&b, m->pattern, strlen(m->pattern));
        buf_puts(&b, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]}");
    } else
        buf_puts(&b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}");
    buf_printf(&b,
               ",\"post_processor\":%s,\"decoder\":%s,\"model\":{\"type\":\"BPE\",%s\"vocab\":{",
               m->post != NULL ? m->post : "null",
               m->spm ? "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
                        "{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
                        "{\"type\":\"Fuse\"}]}"
                      : "{\"type\":\"ByteLevel\"}",
               m->options != NULL ? m->options : "");
    unsigned id = 0;
    if (m->spm)
        buf_printf(&b, "\"<unk>\":%u", id++);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        size_t n = m->spm ? (size_t)snprintf(text, sizeof text, "<0x%02X>", byte)
                          : utf8_encode(mini_alphabet(byte), text);
        if (id > 0)
            buf_putc(&b, ',');
        json_quote(&b, text, n);
        buf_printf(&b, ":%u", id++);
    }
    for (const char *const *e = m->extra; e != NULL && *e != NULL; e++) {
        buf_putc(&b, ',');
        json_quote(&b, *e, strlen(*e));
        buf_printf(&b, ":%u", id++);
    }
    buf_puts(&b, "},\"merges\":[");
    for (const char *const *e = m->merges; e != NULL && *e != NULL; e++) {
        if (e != m->merges)
            buf_putc(&b, ',');
        json_quote(&b, *e, strlen(*e));
    }
    buf_puts(&b, "]}}");
    return buf_take(&b);
}

static inline struct tokenizer *mini_build(const struct mini *m) {
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    char *json = mini_json(m);
    if (tokenizer_from_json(NULL, json, strlen(json), &t, &why) != SLM_OK)
        fprintf(stderr, "mini: %s at %llu\n", why.message, (unsigned long long)why.offset);
    free(json);
    return t;
}

#endif
