/* Gives back what it gets: as a plugin, and bare. */
#include "swarm_plugin.h"

static int32_t describe(void *self, const swarm_host *host) {
    (void)self;
    return swarm_answer(host, "{\"name\": \"echo\", \"version\": \"1.0.100000\"}");
}

static int32_t execute(void *self, swarm_bytes params, const swarm_host *host) {
    (void)self;
    host->write(host->context, params.data, params.len);
    return SWARM_OK;
}

SWARM_PLUGIN_EXPORT const swarm_table *swarm_plugin_v1(void) {
    static const swarm_table table = {
        SWARM_ABI_VERSION, FLAGS, sizeof(swarm_table), describe, NULL, NULL, execute, NULL, NULL, NULL, NULL,
    };
    return &table;
}

SWARM_PLUGIN_EXPORT void bare_echo(swarm_bytes params, void (*write)(void *, const uint8_t *, size_t), void *to) {
    write(to, params.data, params.len);
}
