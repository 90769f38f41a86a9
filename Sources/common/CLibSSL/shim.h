// TLS of OpenSSL 3 for Swift: the header, and static inline forms of the macros that are not imported.
#ifndef MICRORAPTOR_CLIBSSL_SHIM_H
#define MICRORAPTOR_CLIBSSL_SHIM_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static inline int mr_SSL_CTX_use_tls12_and_later(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

static inline long mr_SSL_set_server_name(SSL *connection, const char *name) {
  return SSL_set_tlsext_host_name(connection, name);
}

// Errors of this thread's queue, the oldest first, as one text.
static inline void mr_SSL_error_text(char *buffer, size_t size) {
  unsigned long code = ERR_get_error();
  if (code == 0) {
    if (size > 0) buffer[0] = 0;
    return;
  }
  const char *reason = ERR_reason_error_string(code);
  if (reason == NULL) {
    ERR_error_string_n(code, buffer, size);
  } else {
    size_t place = 0;
    while (reason[place] != 0 && place + 1 < size) {
      buffer[place] = reason[place];
      place++;
    }
    if (size > 0) buffer[place] = 0;
  }
  ERR_clear_error();
}

#endif
