/* What libraries that are not Python's ask the C library for: names to look up, addresses to connect and send to. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *call, const char *what) {
    const char *file = getenv("PRIVACY_LOG");
    char line[300];
    int length = snprintf(line, sizeof line, "libc %s %s\n", call, what ? what : "");
    int handle = file ? open(file, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (handle < 0) abort();
    if (length >= (int)sizeof line) length = sizeof line - 1;
    if (write(handle, line, length) != length) abort();
    close(handle);
}

static void note_address(const char *call, const struct sockaddr *address) {
    if (address && address->sa_family == AF_INET) note(call, "AF_INET");
    if (address && address->sa_family == AF_INET6) note(call, "AF_INET6");
}

int connect(int socket, const struct sockaddr *address, socklen_t size) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next) next = dlsym(RTLD_NEXT, "connect");
    note_address("connect", address);
    return next(socket, address, size);
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *address, socklen_t size) {
    static ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!next) next = dlsym(RTLD_NEXT, "sendto");
    note_address("sendto", address);
    return next(socket, data, length, flags, address, size);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!next) next = dlsym(RTLD_NEXT, "getaddrinfo");
    note("getaddrinfo", node);
    return next(node, service, hints, found);
}

struct hostent *gethostbyname(const char *name) {
    static struct hostent *(*next)(const char *);
    if (!next) next = dlsym(RTLD_NEXT, "gethostbyname");
    note("gethostbyname", name);
    return next(name);
}
