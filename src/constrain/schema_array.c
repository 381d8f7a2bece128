/* schema_array.c - arrays: a place for each item that has a schema of its own or is counted, and a loop
 * for the rest. */
#include "constrain/schema.h"

/* How many places a schema gives a schema of its own, and the one for the rest (NULL: none). In draft 7
 * "items" may be an array, and "additionalItems" is the rest. */
struct items {
    const json_t *places, *rest;
};

static struct items items_of(struct schema *s, const json_t *schema) {
    struct items i = { json_object_get(schema, "prefixItems"), json_object_get(schema, "items") };
    const json_t *more = json_object_get(schema, "additionalItems");
    if (s->draft7 && json_object_get(schema, "$ref") != NULL)
        return (struct items){ NULL, NULL };
    if (i.places != NULL && !json_is_array(i.places))
        schema_malformed(s, schema, "prefixItems", "is no array of schemas");
    if (i.rest != NULL && json_is_array(i.rest)) {
        if (i.places != NULL)
            schema_malformed(s, schema, "items", "is an array beside 'prefixItems'");
        i.places = i.rest;
        i.rest = more;
    }
    return i;
}

/* The schemas for item i of the array; past all places with a schema of their own, always the same. */
static uint32_t item_rule(struct schema *s, const struct merged *m, size_t i) {
    struct parts set = { NULL, 0, 0 };
    for (uint32_t k = 0; k < m->parts->n; k++) {
        struct items of = items_of(s, m->parts->v[k].schema);
        const json_t *v = i < json_array_size(of.places) ? json_array_get(of.places, i) : of.rest;
        if (v == NULL)
            continue;
        if (!json_is_object(v) && !json_is_boolean(v))
            schema_malformed(s, m->parts->v[k].schema, "items",
                             "is neither an object nor a boolean");
        if (!build_goes_on(s->b) || !parts_add(s, &set, v, 0))
            return 0;
    }
    return schema_rule_of(s, &set);
}

void schema_array(struct schema *s, const struct merged *m, uint32_t from) {
    struct build *b = s->b;
    size_t places = 0;
    for (uint32_t k = 0; k < m->parts->n; k++) {
        size_t n = json_array_size(items_of(s, m->parts->v[k].schema).places);
        places = n > places ? n : places;
    }
    if (places > b->max_nodes || b->err != SLM_OK)
        places = b->max_nodes;
    /* items 0 .. last - 1 have places of their own; the last one is also the loop, if there is no end */
    uint32_t min = m->min_items, max = m->max_items;
    uint32_t last = max != UINT32_MAX            ? max
                    : (uint32_t)places + 1 > min ? (uint32_t)places + 1
                                                 : min;
    uint32_t end = build_final(b), first = build_node(b), next = NODE_NONE;
    uint32_t rest = item_rule(s, m, places);
    for (uint32_t i = last; i-- > 0 && build_goes_on(b);) {
        uint32_t item = build_node(b), after = build_node(b);
        uint32_t loop = i + 1 == last && max == UINT32_MAX ? item : next;
        build_call(b, item, i < places ? item_rule(s, m, i) : rest, build_spaced(b, after));
        if (i + 1 >= min)
            build_edge(b, after, ']', ']', end);
        if (loop != NODE_NONE && b->spaced)
            build_edge(b, after, ',', ',', build_spaced(b, loop));
        else if (loop != NODE_NONE)
            build_text_to(b, after, ", ", 2, loop);
        next = item;
    }
    if (min == 0)
        build_edge(b, first, ']', ']', end);
    if (next != NODE_NONE)
        build_alias(b, first, next);
    build_edge(b, from, '[', '[', build_spaced(b, first));
}
