/* model_names.c - which known model a repository or a file on disk is, judged by its name.
 *
 * Names come from the catalog: the id, the vendor's repository and the repositories of ready files.
 * A name matches when nothing but packaging is left after taking that name away: "-GGUF", a type of
 * weights ("Q4_K_M", "bf16"), the vendor's own name in front. A fine-tune ("...-medical") or
 * another size therefore never passes for the model that it was made from. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

enum { NAME_MOST = 256 };

static bool lowercase(const char *from, size_t n, char *to) {
    if (n >= NAME_MOST)
        return false;
    for (size_t i = 0; i < n; i++)
        to[i] = (char)tolower((unsigned char)from[i]);
    to[n] = 0;
    return true;
}

static bool cut_end(char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    if (n <= m || strcmp(s + n - m, end) != 0)
        return false;
    s[n - m] = 0;
    return true;
}

/* "q8_0", "q4_k_m", "iq4_xs", "bf16", "f16", "fp16", "f32", all lower case. */
static bool is_quant(const char *t) {
    static const char *const floats[] = { "bf16", "f16",      "fp16",    "f32",
                                          "fp32", "bfloat16", "float16", "float32" };
    for (size_t i = 0; i < ARRAY_LEN(floats); i++)
        if (strcmp(t, floats[i]) == 0)
            return true;
    if (*t == 'i')
        t++;
    if (t[0] != 'q' || t[1] < '1' || t[1] > '8')
        return false;
    for (t += 2; *t; t++)
        if (!isalnum((unsigned char)*t) && *t != '_')
            return false;
    return true;
}

/* Takes the type of weights off the end of a lower-case name; it goes to quant[24] (may be NULL). */
static bool cut_quant(char *s, char *quant) {
    char *dash = strrchr(s, '-'), *dot = strrchr(s, '.'), *at = dash > dot ? dash : dot;
    if (!at || !is_quant(at + 1))
        return false;
    if (quant)
        snprintf(quant, 24, "%s", at + 1);
    *at = 0;
    cut_end(s, "-ud");
    return true;
}

static void cut_packaging(char *s, char *quant) {
    cut_end(s, ".gguf");
    for (int i = 0; i < 3; i++)
        if (!cut_end(s, "-gguf") && !cut_end(s, "_gguf") && !cut_quant(s, quant))
            break;
}

void quant_of(const char *file, char *quant, size_t size) {
    char name[NAME_MOST], found[24] = "";
    if (lowercase(file, strlen(file), name))
        cut_packaging(name, found);
    snprintf(quant, size, "%s", found);
}

/* Letters and digits only: "gemma-3-270m-it" and "gemma3:270m" differ in little else. */
static void squeeze(const char *s, char *out) {
    size_t k = 0;
    for (; *s && k + 1 < NAME_MOST; s++)
        if (isalnum((unsigned char)*s))
            out[k++] = (char)tolower((unsigned char)*s);
    out[k] = 0;
}

/* Does a bare name (no packaging, lower case) stand for the card? */
static bool name_is_card(const char *name, const slm_card *card) {
    if (strcasecmp(name, card->id) == 0)
        return true;
    if (!card->hub_id)
        return false;
    const char *slash = strchr(card->hub_id, '/'), *base = slash ? slash + 1 : card->hub_id;
    if (strcasecmp(name, base) == 0)
        return true;
    /* other packagers put the vendor in front with an underscore */
    size_t org = slash ? (size_t)(slash - card->hub_id) : 0;
    return org && strncasecmp(name, card->hub_id, org) == 0 && name[org] == '_' &&
           strcasecmp(name + org + 1, base) == 0;
}

static const char *match_name(const char *name) {
    slm_card card = { .size = sizeof card };
    for (size_t i = 0; i < slm_catalog_count(); i++)
        if (slm_catalog_get(i, &card) == SLM_OK && !card.builtin && name_is_card(name, &card))
            return card.id;
    return NULL;
}

const char *match_file(const char *file) {
    char name[NAME_MOST];
    if (strncasecmp(file, "mmproj", 6) == 0 || !lowercase(file, strlen(file), name))
        return NULL;
    cut_packaging(name, NULL);
    return match_name(name);
}

const char *match_repo(const char *repo) {
    slm_card card = { .size = sizeof card };
    for (size_t i = 0; i < slm_catalog_count(); i++) {
        if (slm_catalog_get(i, &card) != SLM_OK || card.builtin)
            continue;
        for (size_t k = 0; k < card.n_files; k++)
            if (card.files[k].repo && strcasecmp(card.files[k].repo, repo) == 0)
                return card.id;
    }
    const char *slash = strrchr(repo, '/');
    return match_file(slash ? slash + 1 : repo);
}

static bool all_digits(const char *s) {
    for (; *s; s++)
        if (!isdigit((unsigned char)*s))
            return false;
    return true;
}

/* "0.6b", "270m", "3.8b" */
static bool is_size_tag(const char *tag) {
    size_t n = strspn(tag, "0123456789.");
    return n && (tag[n] == 'b' || tag[n] == 'm') && !tag[n + 1];
}

static const char *match_squeezed(const char *name) {
    slm_card card = { .size = sizeof card };
    char mine[NAME_MOST], theirs[NAME_MOST];
    squeeze(name, theirs);
    for (size_t i = 0; i < slm_catalog_count() && theirs[0]; i++) {
        if (slm_catalog_get(i, &card) != SLM_OK || card.builtin)
            continue;
        squeeze(card.id, mine);
        size_t n = strlen(theirs);
        if (strncmp(mine, theirs, n) != 0)
            continue;
        /* what that library's short names leave out: the word for instruction-tuned, the month */
        const char *rest = mine + n;
        if (!*rest || strcmp(rest, "it") == 0 || strcmp(rest, "instruct") == 0 ||
            (all_digits(rest) && !isdigit((unsigned char)mine[n - 1])))
            return card.id;
    }
    return NULL;
}

const char *match_ollama(const char *name, const char *tag) {
    char bare[NAME_MOST], both[2 * NAME_MOST];
    if (!lowercase(tag, strlen(tag), bare))
        return NULL;
    cut_quant(bare, NULL);
    snprintf(both, sizeof both, "%.200s-%s", name, bare);
    const char *id = strcmp(tag, "latest") == 0 ? NULL : match_squeezed(both);
    if (!id && (strcmp(tag, "latest") == 0 || is_size_tag(bare)))
        id = match_squeezed(name);
    return id;
}
