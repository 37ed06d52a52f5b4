/*
 * A plugin for the tests: version 3 of the interface by default, 2 or 1 with -DVERSION. It does what its first argument
 * says. Written against the layouts of openvpn-plugin.h, spelled out here so that the test sees them twice.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 3
#endif

#ifdef USES_OPENSSL /* without being linked to it: OpenVPN's own process has it */
void OPENSSL_cleanse(void *data, size_t len);
void *X509_get_subject_name(const void *certificate);
char *X509_NAME_oneline(const void *name, char *text, int size);
#endif

#define UP 0
#define IPCHANGE 3
#define TLS_VERIFY 4
#define AUTH_USER_PASS_VERIFY 5
#define CLIENT_CONNECT 6
#define CLIENT_CONNECT_V2 9
#define TLS_FINAL 10
#ifdef USES_OPENSSL
#define MORE ((1 << UP) | (1 << IPCHANGE) | (1 << TLS_VERIFY))
#else
#define MORE 0
#endif
#define MASK (MORE | (1 << AUTH_USER_PASS_VERIFY) | (1 << CLIENT_CONNECT_V2) | (1 << TLS_FINAL))

struct list {
    struct list *next;
    char *name;
    char *value;
};

struct callbacks {
    void (*log)(unsigned int flags, const char *name, const char *format, ...);
    void (*vlog)(unsigned int flags, const char *name, const char *format, va_list arguments);
    void (*memzero)(void *data, size_t len);
    int (*encode)(const void *data, int size, char **text);
    int (*decode)(const char *text, void *data, int size);
};

struct open_in {
    int mask;
    const char **argv;
    const char **envp;
    struct callbacks *callbacks;
    int ssl_api;
    const char *version;
    unsigned int major;
    unsigned int minor;
    const char *patch;
};

struct open_return {
    int mask;
    void *handle;
    struct list **list;
};

struct func_in {
    int type;
    const char **argv;
    const char **envp;
    void *handle;
    void *client;
    int depth;
    void *certificate;
};

struct func_return {
    struct list **list;
};

struct state {
    const char *mode;
    struct callbacks *callbacks;
    pthread_t reader;
    int ends[2];
    atomic_int reads;
};

static const char *lookup(const char **envp, const char *name)
{
    size_t len = strlen(name);

    for (; *envp != NULL; envp++)
        if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
            return *envp + len + 1;
    return "";
}

/* Waits for a line, and holds the lock of its stream meanwhile. */
static void *read_line(void *argument)
{
    struct state *state = argument;
    FILE *stream = fdopen(state->ends[0], "r");
    char line[80];

    flockfile(stream);
    state->reads = 1;
    while (fgets(line, sizeof line, stream) != NULL)
        ;
    funlockfile(stream);
    fclose(stream);
    return NULL;
}

static void start_reader(struct state *state)
{
    if (pipe(state->ends) != 0 || pthread_create(&state->reader, NULL, read_line, state) != 0)
        abort();
    while (!state->reads)
        usleep(1000);
}

static struct state *begin(const char **argv, struct callbacks *callbacks)
{
    struct state *state;

    if (argv[1] == NULL || strcmp(argv[1], "refuse") == 0)
        return NULL;
    state = calloc(1, sizeof *state);
    state->mode = argv[1];
    state->callbacks = callbacks;
    if (strcmp(argv[1], "reader") == 0)
        start_reader(state);
    if (callbacks != NULL)
        callbacks->log(4, "TEST", "begins as %s with %d", argv[1], 42);
    if (callbacks != NULL && strcmp(argv[1], "fail") == 0) {
        errno = ENOENT;
        callbacks->log(1 | 1 << 8, "TEST", "cannot read %s", "it");
    }
#ifdef USES_OPENSSL
    OPENSSL_cleanse(malloc(1), 1);
#endif
    return state;
}

static int deny_unless(const char *expected, const char *seen)
{
    return strcmp(expected, seen) == 0 ? 0 : 1;
}

/* Adds a byte to a file, and goes on once another is there with .go behind the same name. */
static int note(const char *path)
{
    char go[4096];
    FILE *file = fopen(path, "a");

    if (file == NULL)
        return 1;
    fputc('x', file);
    fclose(file);
    snprintf(go, sizeof go, "%s.go", path);
    while (access(go, F_OK) != 0)
        usleep(5000);
    return 0;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        return;
    fputs(text, file);
    fclose(file);
}

/* Answers about a client through the files alone, a moment later. */
static int connect_later(const char *answer, const char **envp)
{
    put(lookup(envp, "client_connect_deferred_file"), "2");
    if (fork() == 0) {
        usleep(300000);
        put(lookup(envp, "client_connect_config_file"), "push \"route 192.0.2.0 255.255.255.0\"\n");
        put(lookup(envp, "client_connect_deferred_file"), answer);
        _exit(0);
    }
    return 2;
}

static int act(struct state *state, int type, const char **envp, int *client, struct list **list)
{
    const char *password = lookup(envp, "password");

    if (type == CLIENT_CONNECT_V2 && list != NULL) {
        *list = calloc(1, sizeof **list);
        (*list)->name = strdup("config");
        (*list)->value = strdup("push \"route 192.0.2.0 255.255.255.0\"");
        return 0;
    }
    if (type == CLIENT_CONNECT)
        return connect_later(strcmp(state->mode, "connect-later") == 0 ? "1" : "0", envp);
    if (type == TLS_FINAL) {
        if (state->callbacks != NULL)
            state->callbacks->log(4, "TEST", "exported %d digits", (int)strlen(lookup(envp, "exported_keying_material")));
        return 0;
    }
    if (type != AUTH_USER_PASS_VERIFY)
        return 0;
    if (strcmp(password, "hang") == 0)
        for (;;)
            pause();
    if (strncmp(state->mode, "note:", 5) == 0)
        return note(state->mode + 5);
    if (strcmp(state->mode, "count") == 0)
        return client != NULL && ++*client == 2 ? 0 : 1;
    if (strcmp(state->mode, "defer") == 0) {
        FILE *file = fopen(lookup(envp, "auth_control_file"), "w");

        if (file == NULL)
            return 1;
        fputs(strcmp(password, "correct horse") == 0 ? "1" : "0", file);
        fclose(file);
        return 2;
    }
    return deny_unless("correct horse", password);
}

void openvpn_plugin_close_v1(void *handle)
{
    struct state *state = handle;

    if (state->reads) {
        close(state->ends[1]);
        pthread_join(state->reader, NULL);
    }
    if (strncmp(state->mode, "touch:", 6) == 0) {
        FILE *file = fopen(state->mode + 6, "w");

        if (file != NULL)
            fclose(file);
    }
    free(state);
}

void *openvpn_plugin_client_constructor_v1(void *handle)
{
    (void)handle;
    return calloc(1, sizeof(int));
}

void openvpn_plugin_client_destructor_v1(void *handle, void *client)
{
    (void)handle;
    free(client);
}

#if VERSION == 3
#ifdef USES_OPENSSL
#define IS_SSL_API(number) ((number) == 1)
#else /* this machine may be without OpenSSL's library */
#define IS_SSL_API(number) ((number) == 0 || (number) == 1)
#endif

int openvpn_plugin_open_v3(int version, const struct open_in *in, struct open_return *out)
{
    if (version < 5 || in->major < 2 || in->mask != 0xFFFF || !IS_SSL_API(in->ssl_api))
        return 1;
    out->mask = MASK;
    if (in->argv[1] != NULL && strncmp(in->argv[1], "connect-", 8) == 0)
        out->mask = 1 << CLIENT_CONNECT;
    if (in->argv[1] != NULL && strcmp(in->argv[1], "keys") == 0)
        out->mask = 1 << TLS_FINAL;
    out->handle = begin(in->argv, in->callbacks);
    return out->handle != NULL ? 0 : 1;
}

int openvpn_plugin_func_v3(int version, const struct func_in *in, struct func_return *out)
{
#ifdef USES_OPENSSL
    if (in->type == UP) {
        printf("a line of output\n");
        return in->client != NULL ? 0 : 1;
    }
    struct state *state = in->handle;

    if (in->type == IPCHANGE) {
        state->callbacks->log(4, "TEST", "peer at %s", in->argv[1]);
        return 0;
    }
    if (in->type == TLS_VERIFY) {
        char name[256];

        if (in->certificate == NULL)
            return strcmp(state->mode, "lenient") == 0 ? 0 : 1;
        X509_NAME_oneline(X509_get_subject_name(in->certificate), name, sizeof name);
        state->callbacks->log(4, "TEST", "certificate %d is %s", in->depth, name);
        return 0;
    }
#endif
    if (version < 5 || in->certificate != NULL || in->depth != -1)
        return 1;
    return act(in->handle, in->type, in->envp, in->client, out->list);
}
#elif VERSION == 2
void *openvpn_plugin_open_v2(unsigned int *mask, const char **argv, const char **envp, struct list **list)
{
    (void)envp;
    (void)list;
    *mask = MASK;
    return begin(argv, NULL);
}

int openvpn_plugin_func_v2(void *handle, int type, const char **argv, const char **envp, void *client,
                           struct list **list)
{
    (void)argv;
    return act(handle, type, envp, client, list);
}
#elif VERSION == 1
void *openvpn_plugin_open_v1(unsigned int *mask, const char **argv, const char **envp)
{
    (void)envp;
    *mask = MASK;
    return begin(argv, NULL);
}

int openvpn_plugin_func_v1(void *handle, int type, const char **argv, const char **envp)
{
    (void)argv;
    return act(handle, type, envp, NULL, NULL);
}
#else
int openvpn_plugin_min_version_required_v1(void)
{
    return 4;
}
#endif
