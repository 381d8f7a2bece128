/* find.c - what file a MODEL of the command line means.
 *
 * In this order: "demo", a path that exists, an id of the catalog (or its hub name, with an optional
 * ":quant") that is on disk. Files are used where they are, never copied. Nothing else is guessed: a
 * name that is none of these is an error with the nearest names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli/cli.h"

static const char *next_id(void *user, size_t i) {
    slm_card *card = user;
    card->size = sizeof *card;
    return slm_catalog_get(i, card) == SLM_OK ? card->id : NULL;
}

/* Card for an id or a vendor's repository name, whatever the case. */
static bool find_card(const char *name, slm_card *card) {
    for (size_t i = 0; i < slm_catalog_count(); i++) {
        card->size = sizeof *card;
        if (slm_catalog_get(i, card) != SLM_OK)
            continue;
        if (strcasecmp(card->id, name) == 0 ||
            (card->hub_id && strcasecmp(card->hub_id, name) == 0))
            return true;
    }
    return false;
}

static int not_on_disk(struct cli *c, const slm_card *card, const char *quant,
                       const struct disk_list *list) {
    char ways[768], size[32] = "", have[256] = "";
    const struct slm_hub_file *file = default_file(card);
    for (size_t i = 0; quant && i < card->n_files; i++)
        if (card->files[i].quant && strcasecmp(card->files[i].quant, quant) == 0)
            file = &card->files[i];
    if (file && file->bytes)
        format_bytes(file->bytes, size, sizeof size);
    for (size_t i = 0; quant && i < list->n; i++)
        if (strcmp(list->items[i].id, card->id) == 0 && strlen(have) + 32 < sizeof have)
            snprintf(have + strlen(have), sizeof have - strlen(have), " %s", list->items[i].quant);
    snprintf(ways, sizeof ways,
             "slm pull %s%s%s   fetches %s%s%s%s%s\nslm models    what is on this disk\n"
             "demo    the built-in model: tiny, narrow, always there",
             card->id, quant ? " --quant " : "", quant ? quant : "",
             file && file->repo ? file->repo : "it", file && file->quant ? ", " : "",
             file && file->quant ? file->quant : "", size[0] ? ", about " : "", size);
    if (have[0])
        return report(c, EXIT_COULD_NOT, "E_NOTFOUND", ways, "%s is on this disk as%s, not as %s",
                      card->id, have, quant);
    return report(c, EXIT_COULD_NOT, "E_NOTFOUND", ways, "%s%s%s is not on this disk", card->id,
                  quant ? " as " : "", quant ? quant : "");
}

static int unknown_model(struct cli *c, const char *name) {
    slm_card card;
    char ways[256];
    const char *near = nearest_name(name, next_id, &card);
    snprintf(ways, sizeof ways,
             "%s%s%sslm models    lists the known models\n"
             "or give a .gguf file or a folder in Hugging Face layout",
             near ? "did you mean " : "", near ? near : "", near ? "?\n" : "");
    return report(c, EXIT_COULD_NOT, "E_NOTFOUND", ways,
                  "'%s' is neither a known model nor a file or folder", name);
}

static int find_on_disk(struct cli *c, const slm_card *card, const char *quant, struct found *out) {
    struct disk_list list;
    disk_scan(&list);
    const struct disk_model *best = disk_best(&list, card->id, quant, memory_allowed(c));
    int code = EXIT_DONE;
    if (best) {
        out->path = keep(strdup(best->path));
        out->place = best->place;
        out->id = best->id;
        snprintf(out->quant, sizeof out->quant, "%s", best->quant);
    } else {
        code = not_on_disk(c, card, quant, &list);
    }
    disk_free(&list);
    return code;
}

int find_model(struct cli *c, const char *name, struct found *out) {
    struct stat s;
    slm_card card;
    char id[256];
    memset(out, 0, sizeof *out);
    if (strcmp(name, "demo") == 0) {
        out->demo = true;
        out->id = find_card("demo", &card) ? card.id : NULL;
        return EXIT_DONE;
    }
    const char *colon = strrchr(name, ':');
    snprintf(id, sizeof id, "%.*s", colon ? (int)(colon - name < 255 ? colon - name : 255) : 255,
             name);
    bool known = find_card(id, &card) && !card.builtin;
    /* a folder that happens to be called like a known model counts only when written as a path */
    if ((!known || strchr(name, '/')) && stat(name, &s) == 0) {
        out->path = keep(strdup(name));
        return EXIT_DONE;
    }
    if (known)
        return find_on_disk(c, &card, colon ? colon + 1 : NULL, out);
    size_t n = strlen(name);
    if (strchr(name, '/') || (n > 5 && strcasecmp(name + n - 5, ".gguf") == 0))
        return report(c, EXIT_COULD_NOT, "E_NOTFOUND", "slm models    lists the known models",
                      "there is no file or folder %s", name);
    return unknown_model(c, name);
}

void found_free(struct found *f) {
    free(f->path);
    f->path = NULL;
}
