/* formats.c - the languages of "format", as expressions that match as a whole.
 *
 * Where a standard has forms that are rare or that a text cannot be judged by alone, less is taken:
 * no leap seconds (RFC 3339), host names of at most 6 labels of 41 characters so that they stay below
 * the limit of 253 (RFC 1034), mail addresses without quoted or literal parts (RFC 5321), URIs without
 * literal addresses (RFC 3986). */
#include <string.h>

#include "constrain/schema.h"

#define DATE                                                                                       \
    "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)" \
    "|02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])"                       \
    "|(?:[02468][048]|[13579][26])00)-02-29)"
#define TIME                                                                                       \
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,39}[A-Za-z0-9])?"
#define HOST LABEL "(?:\\." LABEL "){0,5}"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4 OCTET "(?:\\." OCTET "){3}"
#define H16 "[0-9A-Fa-f]{1,4}"
#define LS32 "(?:" H16 ":" H16 "|" IPV4 ")"
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
#define QUERY "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})"
#define AUTHORITY                                                                                  \
    "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?"                                       \
    "(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(?::\\d*)?"

static const struct {
    const char *name, *pattern;
} formats[] = {
    { "date", DATE },
    { "time", TIME },
    { "date-time", DATE "[Tt]" TIME },
    { "uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}" },
    /* RFC 5321: at most 64 bytes before the @, which these numbers of atoms and characters are */
    { "email", "(?:" ATOM "{1,64}|" ATOM "{1,31}\\." ATOM "{1,31}|" ATOM "{1,15}(?:\\." ATOM
               "{1,15}){2,3})@" HOST },
    { "hostname", HOST },
    { "ipv4", IPV4 },
    /* RFC 3986, 3.2.2: the nine forms of an address */
    { "ipv6", "(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32
              "|(?:(?:" H16 ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16
              ")?::(?:" H16 ":){2}" LS32 "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32
              "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32 "|(?:(?:" H16 ":){0,5}" H16 ")?::" H16
              "|(?:(?:" H16 ":){0,6}" H16 ")?::" },
    { "uri", "[A-Za-z][A-Za-z0-9+.-]*:(?://" AUTHORITY "(?:/" PCHAR "*)*|/(?:" PCHAR "+(?:/" PCHAR
             "*)*)?|" PCHAR "+(?:/" PCHAR "*)*)?(?:\\?" QUERY "*)?(?:#" QUERY "*)?" },
};

const char *format_pattern(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(name, formats[i].name) == 0)
            return formats[i].pattern;
    return NULL;
}
