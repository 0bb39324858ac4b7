/* A model endpoint that costs next to nothing: HTTP/1.1 keep-alive, one thread, epoll.
 *
 *   upstream            listens on a free port of 127.0.0.1 and prints it
 *
 * Every POST is answered with an OpenAI chat completion and its usage (40 + 20 tokens), so many
 * milliseconds after it came as its model is named for: "delay-0", "delay-50". With "stream":true
 * the answer comes as server-sent events: CHUNKS of them, GAP_MS apart, then the usage, then [DONE].
 * A GET is answered with 200 and an empty object (gateways look whether their endpoint is alive), and
 * GET .../models with the models' names.
 * It ends when its standard input is closed.
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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 4096 /* by file descriptor */
#define MOST_BYTES 65536      /* of a request */
#define CHUNKS 16
#define GAP_MS 5
#define NS_PER_MS 1000000ull

typedef struct {
    char *bytes; /* what came and was not answered yet */
    size_t length;
    uint64_t due; /* when the next part of the answer leaves; 0 while none is owed */
    int part;     /* of a stream: how many parts have left; -1 for a plain answer */
} connection;

static connection connections[MOST_CONNECTIONS];
static int highest;

static const char COMPLETION[] =
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":\"bench\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A group commit flushes the work of "
    "many writers with one write to the disk: whoever comes first takes along everybody who came "
    "while the last one was under way, and wakes them all once it is safe.\"},"
    "\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":20,\"total_tokens\":60}}";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"delay-0\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bench\"},"
    "{\"id\":\"delay-50\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bench\"}]}";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void hang_up(int fd) {
    close(fd); /* which takes it out of epoll, too */
    free(connections[fd].bytes);
    connections[fd] = (connection){0};
}

/* Answers are far smaller than a socket's buffer: one that does not fit is a client that left. */
static int write_all(int fd, const char *text, int length) {
    if (send(fd, text, length, MSG_NOSIGNAL) == length) return 1;
    hang_up(fd);
    return 0;
}

static void answer(int fd, const char *body) {
    char text[2048];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    write_all(fd, text, length);
}

/* Send what is due, and tell what is due next. */
static void send_part(int fd) {
    connection *c = &connections[fd];
    c->due = 0;
    if (c->part < 0) {
        answer(fd, COMPLETION);
        return;
    }
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    char event[1024], text[2048];
    int last = c->part == CHUNKS;
    int size = snprintf(event, sizeof event,
                        "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
                        "\"created\":1767225600,\"model\":\"bench\",%s}\n\n%s",
                        last ? "\"choices\":[],\"usage\":{\"prompt_tokens\":40,"
                               "\"completion_tokens\":20,\"total_tokens\":60}"
                        : c->part == CHUNKS - 1
                            ? "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"end.\"},"
                              "\"finish_reason\":\"stop\"}]"
                            : "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                              "\"content\":\"word \"},\"finish_reason\":null}]",
                        last ? "data: [DONE]\n\n" : "");
    int length = snprintf(text, sizeof text, "%s%x\r\n%s\r\n%s", c->part ? "" : head, size, event,
                          last ? "0\r\n\r\n" : "");
    if (!write_all(fd, text, length) || last) return;
    c->part++;
    c->due = now() + GAP_MS * NS_PER_MS;
}

/* Take one whole request from what came, if it is there, and owe its answer. */
static void take_request(int fd) {
    connection *c = &connections[fd];
    char *end = memmem(c->bytes, c->length, "\r\n\r\n", 4);
    if (c->due || !end) return;
    *end = 0; /* the head is text from here on */
    char *stated = strcasestr(c->bytes, "\r\ncontent-length:");
    size_t body_length = stated ? strtoul(stated + 17, NULL, 10) : 0;
    size_t whole = end + 4 - c->bytes + body_length;
    *end = '\r';
    if (whole > MOST_BYTES) {
        hang_up(fd);
        return;
    }
    if (c->length < whole) return;
    int is_post = !strncmp(c->bytes, "POST ", 5);
    int is_models = memmem(c->bytes, c->length < 200 ? c->length : 200, "/models ", 8) != NULL;
    char *delay = memmem(end, whole - (end - c->bytes), "delay-", 6);
    char *stream = memmem(end, whole - (end - c->bytes), "\"stream\":", 9);
    uint64_t delay_ms = delay ? strtoul(delay + 6, NULL, 10) : 0;
    c->part = stream && !strncmp(stream + 9 + (stream[9] == ' '), "true", 4) ? 0 : -1;
    c->length -= whole;
    memmove(c->bytes, c->bytes + whole, c->length);
    if (!is_post) answer(fd, is_models ? MODELS : "{}");
    else if (delay_ms) c->due = now() + delay_ms * NS_PER_MS;
    else send_part(fd);
}

static void take_bytes(int fd) {
    connection *c = &connections[fd];
    ssize_t count = recv(fd, c->bytes + c->length, MOST_BYTES - c->length, 0);
    if (count <= 0) {
        hang_up(fd);
        return;
    }
    c->length += count;
    c->bytes[c->length] = 0;
    take_request(fd);
}

static void admit(int listener, int poller) {
    int fd = accept(listener, NULL, NULL), yes = 1;
    if (fd < 0 || fd >= MOST_CONNECTIONS) fail("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connections[fd] = (connection){.bytes = malloc(MOST_BYTES + 1)};
    if (fd > highest) highest = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (!connections[fd].bytes || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* Send what has become due, and set the timer for what comes next. */
static void keep_time(int timer) {
    uint64_t soonest = 0, at = now();
    for (int fd = 0; fd <= highest; fd++) {
        if (connections[fd].due && connections[fd].due <= at) {
            send_part(fd);
            if (connections[fd].bytes && !connections[fd].due) take_request(fd);
        }
        uint64_t due = connections[fd].due;
        if (due && (!soonest || due < soonest)) soonest = due;
    }
    struct itimerspec when = {.it_value = {soonest / 1000000000ull, soonest % 1000000000ull}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(void) {
    int poller = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int watched[] = {STDIN_FILENO, listener, timer};
    for (int i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = watched[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, watched[i], &event)) fail("epoll_ctl");
    }
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            uint64_t expirations;
            if (fd == STDIN_FILENO) return 0;
            if (fd == listener) admit(listener, poller);
            else if (fd == timer) (void)!read(timer, &expirations, sizeof expirations);
            else if (connections[fd].bytes) take_bytes(fd);
        }
        keep_time(timer);
    }
}
