// OpenSSL 3 for Swift: the headers, and static inline forms of the macros and variadics that are not imported.
#ifndef MICRORAPTOR_CLIBCRYPTO_SHIM_H
#define MICRORAPTOR_CLIBCRYPTO_SHIM_H

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static inline void mr_OPENSSL_free(void *pointer) { OPENSSL_free(pointer); }

static inline long mr_BIO_get_mem_data(BIO *bio, const unsigned char **data) {
  char *out = NULL;
  long length = BIO_get_mem_data(bio, &out);
  *data = (const unsigned char *)out;
  return length;
}

static inline EVP_PKEY *mr_EVP_RSA_gen(unsigned int bits) { return EVP_RSA_gen(bits); }

// Sets OAEP with SHA-1 for hash and MGF1 and an empty label (the only form the protocol knows).
static inline int mr_rsa_use_oaep_sha1(EVP_PKEY_CTX *ctx) {
  if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0) return 0;
  if (EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha1()) <= 0) return 0;
  return EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha1()) > 0;
}

// Starts HMAC-SHA1 with a key. In C, because an OSSL_PARAM keeps pointers to its key and value: texts made from Swift's
// strings would be gone before they are read.
static inline int mr_hmac_sha1_init(EVP_MAC_CTX *ctx, const unsigned char *key, size_t length) {
  OSSL_PARAM parameters[] = {
    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA1", 0), OSSL_PARAM_construct_end()};
  return EVP_MAC_init(ctx, key, length, parameters);
}

static inline int mr_rsa_use_pkcs1_sha256(EVP_PKEY_CTX *ctx) {
  if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) <= 0) return 0;
  return EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0;
}

static inline int mr_X509_REQ_subject_count(X509_REQ *request) {
  return X509_NAME_entry_count(X509_REQ_get_subject_name(request));
}

#if __has_include("pki_shim.h")
#include "pki_shim.h"
#endif

#endif
