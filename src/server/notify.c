/* notify.c - sd_notify's protocol: sd_notify(3), "Notes". */
#include "server/notify.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool notify_send(const char *path, const char *state) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    if (n == 0)
        return true;
    if ((path[0] != '/' && path[0] != '@') || n >= sizeof to.sun_path)
        return false;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@') /* the abstract name space */
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
    return sent >= 0;
}

uint32_t notify_watchdog_ms(const char *usec) {
    if (usec == NULL || !isdigit((unsigned char)usec[0]))
        return 0;
    unsigned long long v = strtoull(usec, NULL, 10) / 2000;
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}
