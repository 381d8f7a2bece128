/* test_model_identity.c - what changes the identity of a file's weights, and what does not. */
#include "../golden/twin.h"


static bool same(const uint64_t a[2], const struct tensors *t, const struct facts *f) {
    uint64_t b[2];
    net_identity(t, f, b);
    assert_true((a[0] == b[0]) == (a[1] == b[1])); /* both halves tell */
    return a[0] == b[0];
}

/* The identity when byte `at` of tensor i is another one. */
static bool same_with_byte(const uint64_t was[2], struct tensors *t, const struct facts *f,
                           uint32_t i, uint64_t at) {
    struct tensor_info *x = &t->list[i];
    const uint8_t *data = x->data;
    uint8_t *changed = malloc((size_t)x->size);
    memcpy(changed, data, (size_t)x->size);
    changed[at] ^= 0x10;
    x->data = changed;
    bool equal = same(was, t, f);
    x->data = data;
    free(changed);
    return equal;
}

static void test_weights(void **state) {
    (void)state;
    struct twin t, again;
    uint64_t id[2];
    twin_open(&t, "golden/gemma-3-270m-it", kernels_pick(ISA_LEVEL_COUNT), true, 1);
    twin_open(&again, "golden/gemma-3-270m-it", kernels_pick(ISA_LEVEL_REF), false, 2);
    net_identity(t.weights, &t.facts, id);
    assert_true(id[0] != 0 && id[1] != 0 && id[0] != id[1]);
    assert_true(same(id, again.weights, &again.facts)); /* another mapping, other kernels */
    uint32_t largest = 0;
    for (uint32_t i = 0; i < t.weights->n; i++) {
        assert_false(same_with_byte(id, t.weights, &t.facts, i, 0));
        assert_false(same_with_byte(id, t.weights, &t.facts, i, t.weights->list[i].size - 1));
        largest = t.weights->list[i].size > t.weights->list[largest].size ? i : largest;
    }
    uint64_t size = t.weights->list[largest].size;
    assert_true(size > 3 * 4096); /* the twin has one that is not read whole */
    assert_false(same_with_byte(id, t.weights, &t.facts, largest, 4095));
    assert_true(same_with_byte(id, t.weights, &t.facts, largest, 4096));
    assert_false(same_with_byte(id, t.weights, &t.facts, largest, size - 4096));
    struct tensor_info *x = &t.weights->list[1], kept = *x;
    x->name = "model.other";
    assert_false(same(id, t.weights, &t.facts));
    *x = kept;
    x->dims[0]++;
    assert_false(same(id, t.weights, &t.facts));
    *x = kept;
    x->dtype = x->dtype == DT_F16 ? DT_BF16 : DT_F16;
    assert_false(same(id, t.weights, &t.facts));
    *x = kept;
    t.weights->files[0].map.size++;
    assert_false(same(id, t.weights, &t.facts));
    t.weights->files[0].map.size--;
    assert_true(same(id, t.weights, &t.facts));
    twin_close(&again);
    twin_close(&t);
}

static void test_numbers(void **state) {
    (void)state;
    struct twin t;
    uint64_t id[2];
    twin_open(&t, "golden/phi-4-mini-instruct", kernels_pick(ISA_LEVEL_COUNT), true, 1);
    net_identity(t.weights, &t.facts, id);
    struct model *m = &t.facts.m, kept = *m;
#define CHANGED(change)                                                                            \
    do {                                                                                           \
        change;                                                                                    \
        assert_false(same(id, t.weights, &t.facts));                                               \
        *m = kept;                                                                                 \
    } while (0)
    CHANGED(m->layers++);
    CHANGED(m->kv_heads *= 2);
    CHANGED(m->window = 77);
    CHANGED(m->eps *= 2.0f);
    CHANGED(m->theta += 1.0f);
    CHANGED(m->attn_scale = 0.5f);
    CHANGED(m->pattern = "FN");
    CHANGED(m->rope.original_context++);
    CHANGED(m->rope.long_factors = m->rope.short_factors);
    CHANGED(m->rope.kind = ROPE_PLAIN);
    m->name = "another"; /* what it is called decides no number */
    m->params++;
    assert_true(same(id, t.weights, &t.facts));
    *m = kept;
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
