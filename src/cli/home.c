/* home.c - the folder where slm keeps its own files, and reading whole files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

char *home_path(const char *rel) {
    const char *home = getenv("SLM_HOME"), *data = getenv("XDG_DATA_HOME"), *user = getenv("HOME");
    if (home && home[0])
        return text_printf("%s/%s", home, rel);
    if (data && data[0] == '/')
        return text_printf("%s/slm/%s", data, rel);
    return text_printf("%s/.local/share/slm/%s", user && user[0] ? user : ".", rel);
}

bool home_make(struct cli *c) {
    char *path = home_path("");
    bool ok = true;
    for (char *p = path + 1; *p && ok; p++)
        if (*p == '/') {
            *p = 0;
            ok = mkdir(path, 0700) == 0 || errno == EEXIST;
            if (!ok)
                report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot make the folder %s: %s", path,
                       strerror(errno));
            *p = '/';
        }
    free(path);
    return ok;
}

char *read_all(int fd, size_t limit, size_t *n) {
    size_t room = 16384, used = 0;
    char *data = keep(malloc(room));
    for (;;) {
        if (used + 1 >= room)
            data = keep(realloc(data, room *= 2));
        ssize_t k = read(fd, data + used, room - used - 1);
        if (k < 0 && errno == EINTR && !interrupted())
            continue;
        if (k > 0 && used + (size_t)k > limit) {
            errno = EFBIG;
            k = -1;
        }
        if (k < 0) {
            int saved = errno;
            free(data);
            errno = saved;
            return NULL;
        }
        used += (size_t)k;
        if (k == 0)
            break;
    }
    data[used] = 0;
    *n = used;
    return data;
}

char *read_path(const char *path, size_t limit, size_t *n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *data = read_all(fd, limit, n);
    int saved = errno;
    close(fd);
    errno = saved;
    return data;
}
