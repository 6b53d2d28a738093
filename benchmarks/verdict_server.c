/* A server of chat completions whose times are known: benchmarks/verdict.py and known_loads.py.

     verdict_server TTFT_MS LOG [CHUNKS GAP_MS [stamped] [tls=FILE]]

   Streams over HTTP/1.1 with keep-alive. The headers and the first token of each response are
   written TTFT_MS milliseconds after the request has arrived, the others of CHUNKS (6) follow GAP_MS
   (10) apart. With 0 chunks, a response is a whole body.
   stamped: each chunk says when it was written, as `sent_ns` of CLOCK_MONOTONIC.
   tls=FILE: over TLS 1.3, with the certificate and the key in a file; needs -DWITH_TLS -lssl.
   Prints its port, and ends when its standard input is closed.

   LOG gets a line a POST request: its number (which is also the id of the response), when it arrived
   and when the first token was written, in nanoseconds of CLOCK_MONOTONIC. The time of arrival is
   that of the network stack, so that it does not depend on when this process gets a processor. Other
   requests are answered in the same way and not logged. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { MOST_CHUNKS = 1 << 10, MOST_FILES = 1 << 16, ROOM = 1 << 16, AT_ONCE = 1 << 16 };
enum { NOT_LOGGED = -1 };

#define WHOLE_HEAD \
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
#define HEAD \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

typedef struct {
    char *text;
    size_t used;
    int64_t arrived;
    long number;
#ifdef WITH_TLS
    SSL *tls;
#endif
} Connection;

typedef struct {
    int file;
    int64_t due;
} Write;

/* All delays of one chunk are equal, so a queue for each chunk is in order of time. */
typedef struct {
    Write *items;
    size_t first, end;
} Queue;

static Connection connections[MOST_FILES];
static Queue queues[MOST_CHUNKS];
static int chunks = 6;
static int64_t gap = 10000000;
static int64_t ttft;
static int64_t realtime_offset;
static long requests;
static int is_stamped;
static FILE *log_file;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t read_clock(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void push(int chunk, int file, int64_t due) {
    Queue *queue = &queues[chunk];
    queue->items[queue->end++ % AT_ONCE] = (Write){file, due};
}

#ifdef WITH_TLS
static SSL_CTX *tls_context;

static void use_tls(const char *file) {
    tls_context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls_context, file) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, file, SSL_FILETYPE_PEM) != 1)
        fail("tls");
}

/* Read as recvmsg does; the handshake is part of the first read. */
static ssize_t receive_tls(Connection *connection, int file, char *room, size_t size) {
    if (connection->tls == NULL) {
        connection->tls = SSL_new(tls_context);
        SSL_set_fd(connection->tls, file);
        SSL_set_accept_state(connection->tls);
    }
    int got = SSL_read(connection->tls, room, (int)size);
    if (got <= 0 && SSL_get_error(connection->tls, got) == SSL_ERROR_WANT_READ) {
        errno = EAGAIN;
        return -1;
    }
    return got;
}
#else
static void use_tls(const char *file) {
    (void)file;
    fail("built without TLS");
}
#endif

static ssize_t send_text(int file, const char *text, size_t length) {
#ifdef WITH_TLS
    if (tls_context != NULL)
        return SSL_write(connections[file].tls, text, (int)length);
#endif
    return send(file, text, length, MSG_NOSIGNAL);
}

static void hang_up(int file) {
#ifdef WITH_TLS
    SSL_free(connections[file].tls);
#endif
    free(connections[file].text);
    connections[file] = (Connection){0};
    close(file);
}

/* Return whether a whole request has been received. */
static int is_complete(const Connection *connection) {
    const char *end = memmem(connection->text, connection->used, "\r\n\r\n", 4);
    const char *length = NULL, *line;
    if (end == NULL)
        return 0;
    for (line = connection->text; line < end; line = strstr(line, "\r\n") + 2)
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = line + 15;
    size_t body = length == NULL ? 0 : strtoul(length, NULL, 10);
    return connection->used >= (size_t)(end + 4 - connection->text) + body;
}

static void receive(int file) {
    Connection *connection = &connections[file];
    if (connection->text == NULL)
        connection->text = calloc(1, ROOM + 1);
    for (;;) {
        char control[256];
        struct iovec room = {connection->text + connection->used, ROOM - connection->used};
        struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1,
                                 .msg_control = control, .msg_controllen = sizeof control};
        ssize_t got;
#ifdef WITH_TLS
        if (tls_context != NULL)
            got = receive_tls(connection, file, room.iov_base, room.iov_len);
        else
#endif
            got = recvmsg(file, &message, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            hang_up(file);
            return;
        }
        connection->arrived = read_clock(CLOCK_MONOTONIC);
        for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part))
            if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec at;
                memcpy(&at, CMSG_DATA(part), sizeof at);
                connection->arrived = (int64_t)at.tv_sec * 1000000000 + at.tv_nsec - realtime_offset;
            }
        connection->used += (size_t)got;
        connection->text[connection->used] = 0;
        if (is_complete(connection)) {
            connection->used = 0;
            connection->number = connection->text[0] == 'P' ? requests++ : NOT_LOGGED;
            push(0, file, connection->arrived + ttft);
        }
    }
}

static void accept_all(int listener, int poll) {
    int file, on = 1;
    while ((file = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
        if (file >= MOST_FILES)
            fail("too many connections");
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(file, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, file, &event) < 0)
            fail("epoll_ctl");
    }
}

static void write_chunk(int chunk, int file) {
    Connection *connection = &connections[file];
    char event[512], text[1024], stamp[64] = "";
    int last = chunk >= chunks - 1;
    int64_t now = read_clock(CLOCK_MONOTONIC);
    if (is_stamped)
        snprintf(stamp, sizeof stamp, "\"sent_ns\":%lld,", (long long)now);
    if (connection->text == NULL) /* the client closed the connection */
        return;
    int length = chunks == 0 ? snprintf(
        event, sizeof event,
        "{\"id\":\"%ld\",\"object\":\"chat.completion\",\"model\":\"known\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"word\"},\"finish_reason\":\"stop\"}]}",
        connection->number) : snprintf(
        event, sizeof event,
        "data: {\"id\":\"%ld\",\"object\":\"chat.completion.chunk\",\"model\":\"known\",%s"
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":%s}]}\n\n%s",
        connection->number, stamp, last ? "\"stop\"" : "null", last ? "data: [DONE]\n\n" : "");
    length = snprintf(text, sizeof text, "%s%x\r\n%s\r\n%s", chunk > 0 ? "" : chunks == 0 ? WHOLE_HEAD : HEAD, length, event,
                      last ? "0\r\n\r\n" : "");
    if (send_text(file, text, (size_t)length) != length) {
        perror("send");
        return;
    }
    if (chunk == 0 && connection->number != NOT_LOGGED)
        fprintf(log_file, "%ld %lld %lld\n", connection->number, (long long)connection->arrived,
                (long long)now);
    if (!last)
        push(chunk + 1, file, now + gap);
}

/* Write all chunks that are due; return when the next one is, or 0. */
static int64_t write_due(void) {
    int64_t next = 0;
    for (int chunk = 0; chunk < MOST_CHUNKS && chunk < (chunks > 0 ? chunks : 1); chunk++) {
        Queue *queue = &queues[chunk];
        while (queue->first < queue->end) {
            Write *item = &queue->items[queue->first % AT_ONCE];
            if (item->due > read_clock(CLOCK_MONOTONIC)) {
                if (next == 0 || item->due < next)
                    next = item->due;
                break;
            }
            queue->first++;
            write_chunk(chunk, item->file);
        }
    }
    return next;
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 8192) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **words) {
    struct epoll_event events[1024];
    struct rlimit files;
    if ((count != 3 && count < 5) || (log_file = fopen(words[2], "w")) == NULL)
        fail("usage: verdict_server TTFT_MS LOG [CHUNKS GAP_MS [stamped] [tls=FILE]]");
    ttft = (int64_t)(atof(words[1]) * 1e6);
    if (count >= 5) {
        chunks = atoi(words[3]);
        gap = (int64_t)(atof(words[4]) * 1e6);
    }
    for (int at = 5; at < count; at++) {
        if (strcmp(words[at], "stamped") == 0)
            is_stamped = 1;
        else if (strncmp(words[at], "tls=", 4) == 0)
            use_tls(words[at] + 4);
        else
            fail(words[at]);
    }
    if (chunks < 0 || chunks > MOST_CHUNKS)
        fail("CHUNKS");
    realtime_offset = read_clock(CLOCK_REALTIME) - read_clock(CLOCK_MONOTONIC);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int chunk = 0; chunk < MOST_CHUNKS && chunk < (chunks > 0 ? chunks : 1); chunk++)
        queues[chunk].items = calloc(AT_ONCE, sizeof(Write));
    int listener = listen_on_loopback(), poll = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    int sources[] = {listener, timer, STDIN_FILENO};
    for (int at = 0; at < 3; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = sources[at]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, sources[at], &event) < 0)
            fail("epoll_ctl");
    }
    for (;;) {
        int64_t next = write_due();
        struct itimerspec at = {.it_value = {next / 1000000000, next % 1000000000}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        int found = epoll_wait(poll, events, 1024, -1);
        for (int which = 0; which < found; which++) {
            int file = events[which].data.fd;
            char ignored[8];
            if (file == listener)
                accept_all(listener, poll);
            else if (file == STDIN_FILENO)
                return fclose(log_file);
            else if (file == timer)
                (void)!read(timer, ignored, sizeof ignored);
            else
                receive(file);
        }
    }
}
