/* api_images.c - image parts of all dialects: where their bytes are, and how many.
 *
 * OpenAI's image_url and input_image hold a data URL, Anthropic's image a base64 source, Ollama's messages
 * a list of base64 texts. All become parts {"type":"image"} of the document, with their bytes beside it in
 * the same order. Addresses on the network are not fetched: a server that fetches what strangers tell it to
 * is a way into the network that it stands in. */
#include <stdlib.h>
#include <string.h>

#include "server/api_read.h"

bool image_is_part(const char *type) {
    return strcmp(type, "image_url") == 0 || strcmp(type, "input_image") == 0 ||
           strcmp(type, "image") == 0;
}

/* The base64 text of "data:image/png;base64,...". */
static const char *data_of(const char *url) {
    static const char mark[] = ";base64";
    const char *comma = strncmp(url, "data:", 5) == 0 ? strchr(url, ',') : NULL;
    size_t head = comma != NULL ? (size_t)(comma - url) : 0;
    if (head < 5 + sizeof mark - 1 ||
        strncmp(comma - (sizeof mark - 1), mark, sizeof mark - 1) != 0)
        return NULL;
    return comma + 1;
}

static bool keep_image(struct api_reader *r, const char *base64, const char *name) {
    struct api_call *call = r->call;
    if (call->n_images == API_IMAGES_MOST)
        return api_fail(r->error, 400, "too_many_images", name, "'%s' has more than %d images",
                        name, API_IMAGES_MOST);
    call->images[call->n_images++] = (struct api_image){ base64, strlen(base64) };
    return true;
}

static bool keep_url(struct api_reader *r, const json_t *url, const char *name) {
    const char *text = json_string_value(json_is_object(url) ? json_object_get(url, "url") : url);
    const char *data = text != NULL ? data_of(text) : NULL;
    if (data == NULL)
        return api_fail(
            r->error, 400, "unsupported_image_url", name,
            "'%s' has an image that is no data: URL in base64; addresses are not fetched", name);
    return keep_image(r, data, name);
}

static bool keep_source(struct api_reader *r, const json_t *source, const char *name) {
    const char *type = json_string_value(json_object_get(source, "type"));
    const char *data = json_string_value(json_object_get(source, "data"));
    if (type == NULL || strcmp(type, "base64") != 0 || data == NULL)
        return api_fail(r->error, 400, "unsupported_image_source", name,
                        "'%s' has an image whose source is not base64; addresses are not fetched",
                        name);
    return keep_image(r, data, name);
}

bool image_part(struct api_reader *r, const json_t *part, const char *name, json_t *parts) {
    const json_t *source = json_object_get(part, "source");
    bool kept = json_is_object(source) ? keep_source(r, source, name)
                                       : keep_url(r, json_object_get(part, "image_url"), name);
    if (!kept)
        return false;
    json_t *image = json_pack("{s:s}", "type", "image");
    return (image != NULL && json_array_append_new(parts, image) == 0) || no_memory(r);
}

json_t *image_content(struct api_reader *r, const json_t *images, json_t *text, const char *name) {
    json_t *parts = json_array(), *words;
    const json_t *item;
    size_t i;
    bool ok = parts != NULL || no_memory(r);
    for (i = 0; ok && i < json_array_size(images); i++) {
        item = json_array_get(images, i);
        const char *data = json_string_value(item);
        if (data != NULL && strncmp(data, "data:", 5) == 0)
            data = data_of(data);
        json_t *image = json_pack("{s:s}", "type", "image");
        ok = data != NULL ? keep_image(r, data, name)
                          : bad_field(r, name, "has an image that is no base64 text");
        if (ok && (image == NULL || json_array_append(parts, image) != 0))
            ok = no_memory(r);
        json_decref(image);
    }
    words = ok ? json_pack("{s:s, s:O}", "type", "text", "text", text) : NULL;
    if (ok && (words == NULL || json_array_append_new(parts, words) != 0))
        ok = no_memory(r);
    json_decref(text);
    if (!ok) {
        json_decref(parts);
        return NULL;
    }
    return parts;
}

size_t image_count(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(content); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(content, i), "type"));
        n += type != NULL && strcmp(type, "image") == 0;
    }
    return n;
}

/* ------------------------------------------------------------------ base64 */

static int value_of(unsigned char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

bool api_image_bytes(const struct api_image *image, uint8_t **bytes, size_t *n,
                     struct api_error *e) {
    size_t end = image->n, at = 0, held = 0;
    uint32_t word = 0;
    while (end > 0 && image->n - end < 2 && image->base64[end - 1] == '=')
        end--;
    *bytes = malloc(image->n / 4 * 3 + 3);
    *n = 0;
    if (*bytes == NULL)
        return api_fail(e, 503, "out_of_memory", NULL, "not enough memory for an image");
    for (; at < end; at++) {
        int v = value_of((unsigned char)image->base64[at]);
        if (v < 0)
            break;
        word = word << 6 | (uint32_t)v;
        if (++held == 4) {
            for (int shift = 16; shift >= 0; shift -= 8)
                (*bytes)[(*n)++] = (uint8_t)(word >> shift);
            word = 0;
            held = 0;
        }
    }
    if (at < end || held == 1) {
        free(*bytes);
        *bytes = NULL;
        return api_fail(e, 400, "invalid_image", NULL, "an image is no base64 from byte %zu on",
                        at);
    }
    if (held > 1)
        (*bytes)[(*n)++] = (uint8_t)(held == 2 ? word >> 4 : word >> 10);
    if (held == 3)
        (*bytes)[(*n)++] = (uint8_t)(word >> 2);
    return true;
}
