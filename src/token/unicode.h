/* unicode.h - character classes for the scanners and the normaliser, from a constant table. */
#ifndef SLM_TOKEN_UNICODE_H
#define SLM_TOKEN_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum char_class {
    CC_OTHER = 0,  /* punctuation, symbols, controls, unassigned */
    CC_UPPER = 1,  /* Lu Lt */
    CC_LOWER = 2,  /* Ll */
    CC_LETTER = 3, /* Lm Lo */
    CC_MARK = 4,   /* Mn Mc Me */
    CC_NUMBER = 5, /* Nd Nl No */
    CC_SPACE = 6,  /* White_Space, among them CR and LF */
    CC_MASK = 7,
    CC_NFC = 0x08, /* NFC may change it or move it: canonical combining class, or NFC_QC not Yes */
    CC_WORD = 0x10 /* \w: Alphabetic, marks, decimal digits, connectors, joiners */
};

/* unicode_table.c, generated */
extern const uint16_t unicode_index[8704];
extern const uint8_t unicode_blocks[][128];

/* cp is a scalar value, at most U+10FFFF */
static inline unsigned char_flags(uint32_t cp) {
    return unicode_blocks[unicode_index[cp >> 7]][cp & 127];
}
static inline enum char_class char_class(uint32_t cp) {
    return (enum char_class)(char_flags(cp) & CC_MASK);
}

/* The code point at s, which is known to be valid UTF-8; *len gets its length. */
static inline uint32_t char_at(const uint8_t *s, size_t *len) {
    uint32_t c = s[0];
    if (c < 0x80) {
        *len = 1;
        return c;
    }
    if (c < 0xe0) {
        *len = 2;
        return (c & 0x1f) << 6 | (s[1] & 0x3fu);
    }
    if (c < 0xf0) {
        *len = 3;
        return (c & 0x0f) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    }
    *len = 4;
    return (c & 0x07) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}

/* The code point that ends just before s + pos (pos > 0), in valid UTF-8. */
static inline uint32_t char_before(const uint8_t *s, size_t pos, size_t *len) {
    size_t at = pos - 1;
    while (at > 0 && (s[at] & 0xc0) == 0x80)
        at--;
    return char_at(s + at, len);
}

#endif
