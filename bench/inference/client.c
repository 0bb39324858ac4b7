/* A closed-loop load client: HTTP/1.1 keep-alive, one thread, epoll.
 *
 *   client PORT CONNECTIONS SECONDS ANSWERS STAGGER_MS REQUEST_FILE EXPECTED
 *
 * Every connection sends the bytes of REQUEST_FILE to 127.0.0.1, and again as soon as it was answered,
 * until SECONDS have passed or ANSWERS were begun; what is under way then is waited for. The
 * connections begin at random moments of the first STAGGER_MS, so that a constant delay does not
 * keep them in step. An answer is wrong unless it is a 200 whose body holds EXPECTED.
 * A connection's first answer is counted, but its latency is not: it may have opened others.
 *
 * Prints a line of JSON: answers, wrong ones (and the first of these), seconds, and percentiles in
 * microseconds of the whole answer and of its first byte of body.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_BYTES 262144 /* of an answer, or of a request */
#define LONGEST_ANSWER_S 60

typedef struct {
    int fd, answers, under_way;
    char *bytes;
    size_t length, parsed; /* what came, and how far its chunks were followed */
    size_t body;           /* where the body begins; 0 before it does */
    long stated;           /* the body's length; -1 when it comes in chunks */
    double begins, sent, first_byte;
} connection;

static char request[MOST_BYTES], first_wrong[512];
static const char *expected;
static size_t request_length;
static uint32_t *whole_us, *first_us;
static size_t recorded, begun, right, wrong, limit;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void ask(connection *c) {
    c->length = c->parsed = c->body = 0;
    c->under_way = 1;
    begun++;
    c->sent = now();
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) fail("send");
}

/* Tell whether the whole answer is there. */
static int is_complete(connection *c) {
    if (!c->body) {
        char *end = memmem(c->bytes, c->length, "\r\n\r\n", 4);
        if (!end) return 0;
        *end = 0;
        char *length = strcasestr(c->bytes, "\r\ncontent-length:");
        if (!length && !strcasestr(c->bytes, "\r\ntransfer-encoding: chunked")) {
            fprintf(stderr, "an answer without a length: %s\n", c->bytes);
            exit(1);
        }
        c->stated = length ? strtol(length + 17, NULL, 10) : -1;
        *end = '\r';
        c->body = c->parsed = end + 4 - c->bytes;
        c->first_byte = 0;
    }
    if (!c->first_byte && c->length > c->body) c->first_byte = now();
    if (c->stated >= 0) return c->length >= c->body + c->stated;
    for (;;) {
        char *line = c->bytes + c->parsed;
        char *end = memmem(line, c->length - c->parsed, "\r\n", 2);
        if (!end) return 0;
        size_t size = strtoul(line, NULL, 16), next = end + 2 - c->bytes + size + 2;
        if (c->length < next) return 0;
        c->parsed = next;
        if (!size) return 1;
    }
}

static void record(connection *c) {
    double at = now();
    c->under_way = 0;
    c->bytes[c->length] = 0;
    if (!strncmp(c->bytes + 8, " 200", 4) && strstr(c->bytes + c->body, expected)) right++;
    else if (!wrong++) snprintf(first_wrong, sizeof first_wrong, "%s", c->bytes);
    if (c->answers++) {
        whole_us[recorded] = (at - c->sent) * 1e6;
        first_us[recorded++] = ((c->first_byte ? c->first_byte : at) - c->sent) * 1e6;
    }
}

static void open_connection(connection *c, struct sockaddr_in *address, int poller) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(c->fd, (struct sockaddr *)address, sizeof *address)) fail("connect");
    c->bytes = malloc(MOST_BYTES + 1);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (!c->bytes || epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_percentiles(const char *name, uint32_t *values) {
    static const int shares[] = {50, 95, 99};
    qsort(values, recorded, sizeof *values, ascending);
    for (int i = 0; i < 3; i++)
        printf(",\"%s_p%d_us\":%u", name, shares[i],
               recorded ? values[(size_t)(recorded * (shares[i] / 100.0))] : 0);
}

static void print_escaped(const char *text) {
    for (; *text; text++)
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else putchar((unsigned char)*text < ' ' ? ' ' : *text);
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "seven arguments: see the first lines of client.c\n");
        return 2;
    }
    int count = atoi(argv[2]), poller = epoll_create1(0), waiting = count;
    double seconds = atof(argv[3]), stagger = atof(argv[5]) / 1000;
    FILE *file = fopen(argv[6], "rb");
    if (!file) fail(argv[6]);
    request_length = fread(request, 1, sizeof request, file);
    limit = strtoul(argv[4], NULL, 10);
    expected = argv[7];
    whole_us = malloc((limit + count) * sizeof *whole_us);
    first_us = malloc((limit + count) * sizeof *first_us);
    connection *all = calloc(count, sizeof *all);
    if (!whole_us || !first_us || !all) fail("malloc");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < count; i++) open_connection(&all[i], &address, poller);
    double began = now(), last = began;
    for (int i = 0; i < count; i++) all[i].begins = began + stagger * rand() / RAND_MAX;
    while (waiting || begun > right + wrong) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, waiting ? 1 : 1000);
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            ssize_t got = recv(c->fd, c->bytes + c->length, MOST_BYTES - c->length, 0);
            if (got <= 0) {
                fprintf(stderr, "the server hung up after %.*s\n", (int)c->length, c->bytes);
                return 1;
            }
            c->length += got;
            if (!is_complete(c)) continue;
            record(c);
            last = now();
            if (last - began < seconds && begun < limit) ask(c);
        }
        for (int i = 0; waiting && i < count; i++)
            if (all[i].begins && all[i].begins <= now()) {
                all[i].begins = 0;
                waiting--;
                if (begun < limit) ask(&all[i]);
            }
        if (now() - last > LONGEST_ANSWER_S) {
            fprintf(stderr, "%zu answers did not come\n", begun - right - wrong);
            return 1;
        }
    }
    printf("{\"right\":%zu,\"wrong\":%zu,\"seconds\":%f", right, wrong, last - began);
    print_percentiles("whole", whole_us);
    print_percentiles("first", first_us);
    printf(",\"first_wrong\":\"");
    print_escaped(first_wrong);
    printf("\"}\n");
    return 0;
}
