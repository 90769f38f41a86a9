// libzmq, and the eventfd calls that Glibc's Swift module leaves out.
#ifndef MICRORAPTOR_CZEROMQ_SHIM_H
#define MICRORAPTOR_CZEROMQ_SHIM_H

#include <sys/eventfd.h>
#include <zmq.h>

static inline int mr_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

#endif
