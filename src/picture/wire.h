/* wire.h - what the child says to the program. */
#ifndef SLM_PICTURE_WIRE_H
#define SLM_PICTURE_WIRE_H

#include <stdint.h>

#define PICTURE_MAGIC 0x504d4c53u

enum { PICTURE_EXIT_USAGE = 64, PICTURE_EXIT_SANDBOX = 65, PICTURE_EXIT_PIPE = 66 };

/* Then width x height x 3 bytes, or n bytes of message when code is not 0. */
struct picture_head {
    uint32_t magic, code;
    uint32_t width, height, turned, n;
    char format[8];
};

#endif
