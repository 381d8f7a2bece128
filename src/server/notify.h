/* notify.h - telling the service manager how it goes (sd_notify), without its library: one datagram to
 * the socket that NOTIFY_SOCKET names. */
#ifndef SLM_SERVER_NOTIFY_H
#define SLM_SERVER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...", "EXTEND_TIMEOUT_USEC=...", several with newlines.
 * socket: the value of NOTIFY_SOCKET, NULL or "": nothing is sent. False when it could not be sent. */
bool notify_send(const char *socket, const char *state);
/* How often the manager wants to hear of us, in ms (half of WATCHDOG_USEC); 0: not at all. */
uint32_t notify_watchdog_ms(const char *watchdog_usec);

#endif
