/*
 * The interface between a host of the crate swarm-plugin and a native library that is a plugin. C99 and C++.
 *
 * A library exports one function, swarm_plugin_v1, which answers a table of functions:
 *
 *     #include "swarm_plugin.h"
 *
 *     static int32_t describe(void *self, const swarm_host *host) {
 *         (void)self;
 *         return swarm_answer(host, "{\"name\": \"hello\", \"version\": \"1.0.0\"}");
 *     }
 *     static int32_t execute(void *self, swarm_bytes params, const swarm_host *host) {
 *         (void)self, (void)params;
 *         return swarm_answer(host, "\"hello\"");
 *     }
 *     SWARM_PLUGIN_EXPORT const swarm_table *swarm_plugin_v1(void) {
 *         static const swarm_table table = {
 *             SWARM_ABI_VERSION, 0, sizeof(swarm_table), describe, NULL, NULL, execute, NULL, NULL, NULL, NULL,
 *         };
 *         return &table;
 *     }
 *
 *     cc -shared -fPIC -o hello.so hello.c
 *
 * What every function of the table may rely on, and must keep to:
 *
 *   - It answers by host->write, any number of times, and by what it returns. With SWARM_OK, what was written is the answer;
 *     with SWARM_FAILED and SWARM_TEMPORARY it is a message for people, of which the beginning is kept.
 *   - Answers and parameters are JSON in UTF-8, without a zero at the end. The host checks what it is given.
 *   - Whatever the host points to may be used until the function returns, and not after. The host keeps no pointer either:
 *     what was given to host->write may be changed or freed once that returns.
 *   - No exception, panic or longjmp may leave it: that ends the process.
 *   - It may be called from any thread. execute is called from several threads at the same time, unless the description
 *     says {"limits": {"concurrency": 1}}, which holds for calls that were given up as well, until they return.
 *     export_state may be called during execute, and more than once for one hand-over, of which the last answer counts.
 *     No other two functions are called for the same instance at the same time, but for one that was given up and has not
 *     returned; cleanup and destroy are called alone.
 *   - It is not interrupted. The host stops waiting at a deadline, and the thread is lost until the function returns; ask
 *     host->is_cancelled in a loop. destroy is not called before it returned.
 *
 * The order for one instance: create, describe, check; import_state at most once; execute and export_state any number of
 * times; cleanup, which is left out where the instance was never taken in or the process ends; destroy.
 *
 * A library is never unloaded. Changes of this interface that a host of version 1 need not know make the table or the
 * host longer; whoever reads looks at its size first.
 */
#ifndef SWARM_PLUGIN_H
#define SWARM_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SWARM_ABI_VERSION UINT32_C(1)

/* What a function returns. */
#define SWARM_OK 0
#define SWARM_FAILED 1    /* the same call would fail again */
#define SWARM_TEMPORARY 2 /* the same call may succeed later */
#define SWARM_PANICKED 3  /* a defect of the plugin; what was written is the message */
#define SWARM_NO_STATE 4  /* of export_state: there is nothing to hand over */

/* Flags of a table. */
#define SWARM_INLINE UINT32_C(1) /* execute returns within microseconds and never waits: it is called on the
                                    caller's own thread, where no deadline holds */

/* So many bytes. `data` may be null where there are none. */
typedef struct swarm_bytes {
    const uint8_t *data;
    size_t len;
} swarm_bytes;

/* What a function of the plugin can ask of the host. The functions may be called from any thread until it returns. */
typedef struct swarm_host {
    size_t size; /* of this structure */
    void *context; /* to be passed on, and nothing else */
    /* Adds to the answer. Not 0 when the answer is longer than the host takes; the function should then return. */
    int32_t (*write)(void *context, const uint8_t *data, size_t len);
    /* Not 0 when nobody waits for the answer any more. */
    int32_t (*is_cancelled)(void *context);
    /* Nanoseconds until nobody waits any more; UINT64_MAX where no deadline is known. */
    uint64_t (*remaining)(void *context);
    /* Tells the caller how far the call is, in units of your choice. `total` is 0 where it is not known, and the message
       may be empty. */
    void (*progress)(void *context, double done, double total, swarm_bytes message);
} swarm_host;

/* What a plugin can do. Of the functions, describe and execute must be there. */
typedef struct swarm_table {
    uint32_t abi_version; /* SWARM_ABI_VERSION */
    uint32_t flags;       /* SWARM_INLINE or 0 */
    size_t size;          /* sizeof(swarm_table) */
    /* Answers an object: "name" and "version" must be there; "description", "parameters" (a JSON Schema), "requires"
       and "limits" are as in plugin.toml. At most 1 MiB. */
    int32_t (*describe)(void *instance, const swarm_host *host);
    /* Makes an instance and stores what the other functions are given, which may be null. Without it, they get null. */
    int32_t (*create)(void **instance, const swarm_host *host);
    /* Says whether the instance can serve. */
    int32_t (*check)(void *instance, const swarm_host *host);
    /* Does the work. The parameters are an object that was checked against the schema. */
    int32_t (*execute)(void *instance, swarm_bytes params, const swarm_host *host);
    /* Answers what a version that takes this one's place should know, or returns SWARM_NO_STATE. At most 16 MiB. */
    int32_t (*export_state)(void *instance, const swarm_host *host);
    /* Takes over what the version before exported. */
    int32_t (*import_state)(void *instance, swarm_bytes state, const swarm_host *host);
    /* Gives back what the instance holds of the world: files, connections. After the last call, once. It is not given
       up: is_cancelled answers 0, however long it takes. */
    int32_t (*cleanup)(void *instance, const swarm_host *host);
    /* Frees the instance. */
    void (*destroy)(void *instance);
} swarm_table;

#if defined(_WIN32)
#define SWARM_EXPORT_ATTRIBUTE __declspec(dllexport)
#else
#define SWARM_EXPORT_ATTRIBUTE __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
#define SWARM_PLUGIN_EXPORT extern "C" SWARM_EXPORT_ATTRIBUTE
#else
#define SWARM_PLUGIN_EXPORT SWARM_EXPORT_ATTRIBUTE
#endif

/* Answers a text. */
static inline int32_t swarm_answer(const swarm_host *host, const char *json) {
    host->write(host->context, (const uint8_t *)json, strlen(json));
    return SWARM_OK;
}

/* Fails with a message. */
static inline int32_t swarm_fail(const swarm_host *host, const char *message) {
    host->write(host->context, (const uint8_t *)message, strlen(message));
    return SWARM_FAILED;
}

#ifdef __cplusplus
}
#endif

#endif
