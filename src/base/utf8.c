/* utf8.c - strict UTF-8. Source: RFC 3629, section 4 (the table of well-formed byte sequences). */
#include "base/utf8.h"

#include <string.h>

/* Length that a lead byte announces, with the range allowed for the second byte; 0: never a lead.
 * The narrowed ranges exclude overlong forms, surrogates and code points above U+10FFFF. */
static size_t lead_length(uint8_t lead, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0)
            *low = 0xa0;
        else if (lead == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (lead > 0xf4)
        return 0;
    if (lead == 0xf0)
        *low = 0x90;
    else if (lead == 0xf4)
        *high = 0x8f;
    return 4;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp) {
    if (n == 0)
        return 0;
    const uint8_t *p = (const uint8_t *)s;
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    uint8_t low, high;
    size_t len = lead_length(p[0], &low, &high);
    if (len == 0 || len > n || p[1] < low || p[1] > high)
        return 0;
    uint32_t value = (uint32_t)(p[0] & (0xff >> (len + 1))) << 6 | (p[1] & 0x3f);
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (p[i] & 0x3f);
    }
    *cp = value;
    return len;
}

size_t utf8_encode(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    static const uint8_t lead[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    out[0] = (char)(lead[len] | cp);
    return len;
}

size_t utf8_valid(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof word) { /* eight ASCII bytes at a time: most text is */
            memcpy(&word, s + i, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof word;
                continue;
            }
        }
        uint32_t cp;
        size_t len = utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            return i;
        i += len;
    }
    return n;
}

size_t utf8_complete(const char *s, size_t n) {
    const uint8_t *p = (const uint8_t *)s;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t byte = p[n - back];
        if ((byte & 0xc0) == 0x80)
            continue; /* continuation: the lead is further back */
        uint8_t low, high;
        size_t len = lead_length(byte, &low, &high);
        if (len <= back)
            return n; /* complete, or no lead at all */
        if (back >= 2 && (p[n - back + 1] < low || p[n - back + 1] > high))
            return n; /* can never become a character */
        return n - back;
    }
    return n;
}
