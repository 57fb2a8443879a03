/* A counter that does what it is told to, and that can be built wrong in many ways. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "swarm_plugin.h"

#ifndef DESCRIPTION
#define DESCRIPTION "{\"name\": \"unruly\", \"version\": \"1.0.100000\"}"
#endif
#ifndef ABI
#define ABI SWARM_ABI_VERSION
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef SIZE
#define SIZE sizeof(swarm_table)
#endif
#ifndef DESCRIBE
#define DESCRIBE describe
#endif
#ifndef EXECUTE
#define EXECUTE execute
#endif
#ifndef CREATED
#define CREATED SWARM_OK
#endif

#ifndef AT_MOST
#define AT_MOST 1000
#endif

#ifdef MISSING
int32_t nobody_has_this(void);
#endif

typedef struct {
    int count, inside, cleaned;
    char path[256]; /* where to tell of the end */
} tool;

static int32_t describe(void *self, const swarm_host *host) {
    (void)self;
#ifdef LONG
    while (host->write(host->context, (const uint8_t *)"        ", 8) == 0) {}
#endif
#ifdef MISSING
    nobody_has_this();
#endif
    return swarm_answer(host, DESCRIPTION);
}

static int32_t create(void **self, const swarm_host *host) {
    if (CREATED != SWARM_OK) swarm_fail(host, "nothing was made");
    *self = CREATED == SWARM_OK ? calloc(1, sizeof(tool)) : NULL;
    return CREATED;
}

#define DOES(what) (strstr(params, "\"do\":\"" what "\"") != NULL)

static int deeper(volatile int depth) {
    volatile char room[4096] = {(char)depth};
    return depth == 0 ? room[0] : deeper(depth + 1) + room[0];
}

/* A text or a number of the parameters: {"do":"...","path":"...","port":...}. */
static void find(const char *params, const char *key, const char *format, void *into) {
    const char *from = strstr(params, key);
    if (from != NULL) sscanf(from + strlen(key), format, into);
}

/* What ends or harms the process, which nothing holds it back from. */
static void harm(const char *params, const swarm_host *host) {
    char path[256] = "";
    if (DOES("spin")) for (volatile int more = 1; more;) {}
    if (DOES("stack")) deeper(1);
    if (DOES("abort")) abort();
    if (DOES("exit")) exit(0);
    if (DOES("memory"))
        for (size_t size = (size_t)1 << 26; size >= 16; size /= 2)
            while (malloc(size) != NULL) {}
    if (DOES("huge")) /* 10 GB, whatever the host says */
        for (int times = 0; times < 10 << 14; times++) {
            static const uint8_t some[65536];
            host->write(host->context, some, sizeof some);
        }
    if (DOES("descriptors"))
        while (open("/dev/null", O_RDONLY) >= 0) {}
    if (DOES("write")) {
        find(params, "\"path\":\"", "%255[^\"]", path);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    if (DOES("network")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        find(params, "\"port\":", "%hu", &to.sin_port);
        to.sin_port = htons(to.sin_port);
        connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to);
    }
}

static int32_t act(tool *self, const char *params, const swarm_host *host) {
    if (DOES("fail")) return swarm_fail(host, "no luck");
    if (DOES("temporary")) return swarm_fail(host, "not now"), SWARM_TEMPORARY;
    if (DOES("panic")) return swarm_fail(host, "oh no"), SWARM_PANICKED;
    if (DOES("number")) return 77;
    if (DOES("no state")) return SWARM_NO_STATE;
    if (DOES("wail")) {
        for (int times = 0; times < 10000; times++) swarm_answer(host, "oh ");
        return SWARM_TEMPORARY;
    }
    if (DOES("nothing")) return SWARM_OK;
    if (DOES("garbage")) return swarm_answer(host, "{\"count\": ");
    if (DOES("utf8")) return swarm_answer(host, "\"\xff\xfe\"");
    if (DOES("deep")) {
        for (int level = 0; level < 100000; level++) swarm_answer(host, "[");
        return SWARM_OK;
    }
    if (DOES("flood")) {
        static const uint8_t some[65536];
        for (int times = 0; times < 1 << 20; times++)
            if (host->write(host->context, some, sizeof some) != 0) return SWARM_OK;
        return swarm_fail(host, "everything was taken");
    }
    if (DOES("loop")) {
        while (!host->is_cancelled(host->context)) {}
        return swarm_answer(host, "\"noticed\"");
    }
    if (DOES("progress")) {
        swarm_bytes message = {(const uint8_t *)"half", 4};
        host->progress(host->context, 1, 2, message);
        return swarm_answer(host, host->remaining(host->context) < UINT64_C(30000000000) ? "true" : "false");
    }
    if (DOES("hang")) { /* {"do":"hang","path":"…"} until the file is there, whatever the host says */
        char path[256] = "";
        find(params, "\"path\":\"", "%255[^\"]", path);
        memcpy(self->path, path, sizeof path);
        swarm_bytes nothing = {NULL, 0};
        host->progress(host->context, 0, 0, nothing); /* it is inside */
        while (access(path, F_OK) != 0) usleep(100);
        return swarm_answer(host, "\"back\"");
    }
    harm(params, host);
    char answer[64];
    if (DOES("spawn")) {
        pid_t child = fork();
        if (child == 0) execlp("sleep", "sleep", "1000", (char *)NULL);
        snprintf(answer, sizeof answer, "{\"child\": %d}", (int)child);
        return swarm_answer(host, answer);
    }
    snprintf(answer, sizeof answer, "{\"count\": %d}", __atomic_add_fetch(&self->count, 1, __ATOMIC_SEQ_CST));
    return swarm_answer(host, answer);
}

static int32_t execute(void *instance, swarm_bytes params, const swarm_host *host) {
    tool *self = instance;
    if (self->cleaned) abort();
    int inside = __atomic_add_fetch(&self->inside, 1, __ATOMIC_SEQ_CST);
    if (inside > AT_MOST) abort();
    char *text = calloc(1, params.len + 1);
    memcpy(text, params.data, params.len);
    int32_t code = act(self, text, host);
    free(text);
    __atomic_sub_fetch(&self->inside, 1, __ATOMIC_SEQ_CST);
    return code;
}

static int32_t export_state(void *instance, const swarm_host *host) {
    char answer[64];
    snprintf(answer, sizeof answer, "%d", __atomic_load_n(&((tool *)instance)->count, __ATOMIC_SEQ_CST));
    return swarm_answer(host, answer);
}

static int32_t import_state(void *instance, swarm_bytes state, const swarm_host *host) {
    char text[64] = "";
    if (state.len >= sizeof text) return swarm_fail(host, "too long");
    memcpy(text, state.data, state.len);
    ((tool *)instance)->count = atoi(text);
    return SWARM_OK;
}

static int32_t cleanup(void *instance, const swarm_host *host) {
    tool *self = instance;
    (void)host;
#ifdef STUCK
    for (;;) pause();
#endif
    if (self->inside != 0 || self->cleaned++ != 0) abort();
    return SWARM_OK;
}

static void destroy(void *instance) {
    tool *self = instance;
    if (self->inside != 0) abort();
    if (self->path[0] != 0) {
        char path[300];
        snprintf(path, sizeof path, "%s.%d", self->path, self->cleaned);
        fclose(fopen(path, "w"));
    }
    free(self);
}

SWARM_PLUGIN_EXPORT const swarm_table *swarm_plugin_v1(void) {
    static const swarm_table table = {
        ABI, FLAGS, SIZE, DESCRIBE, create, NULL, EXECUTE, export_state, import_state, cleanup, destroy,
    };
    (void)describe, (void)execute;
#ifdef NO_TABLE
    return NULL;
#endif
    return &table;
}
