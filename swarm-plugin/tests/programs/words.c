#include <stdio.h>
#include "swarm_plugin.h"

static int32_t describe(void *self, const swarm_host *host) {
    (void)self;
    return swarm_answer(host, "{\"name\": \"words\", \"version\": \"1.0.0\", \"description\": \"Counts words\","
                              " \"parameters\": {\"type\": \"object\", \"properties\": {\"text\":"
                              " {\"type\": \"string\", \"pattern\": \"^[a-z ]*$\"}}, \"required\": [\"text\"]}}");
}

static int32_t execute(void *self, swarm_bytes params, const swarm_host *host) {
    (void)self;
    size_t words = 0, at = 0;
    while (at < params.len && params.data[at] != ':') at++; /* {"text":"one two"} */
    for (int inside = 0; at < params.len; at++) {
        int letter = params.data[at] >= 'a' && params.data[at] <= 'z';
        words += letter && !inside;
        inside = letter;
    }
    char answer[64];
    snprintf(answer, sizeof answer, "{\"words\": %zu}", words);
    return swarm_answer(host, answer);
}

SWARM_PLUGIN_EXPORT const swarm_table *swarm_plugin_v1(void) {
    static const swarm_table table = {
        SWARM_ABI_VERSION, 0, sizeof(swarm_table), describe, NULL, NULL, execute, NULL, NULL, NULL, NULL,
    };
    return &table;
}
