// Certificates: what X.509 in libcrypto offers only as macros, type-checked stacks or structs that Swift sees badly.
#ifndef MICRORAPTOR_PKI_SHIM_H
#define MICRORAPTOR_PKI_SHIM_H

#include <openssl/ec.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static inline EVP_PKEY *mr_EVP_EC_gen(const char *curve) { return EVP_EC_gen(curve); }

// Adds an extension from its configuration text, for example "critical,CA:TRUE". The issuer may be the certificate.
static inline int mr_X509_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  if (extension == NULL) return 0;
  int added = X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return added;
}

static inline GENERAL_NAMES *mr_X509_alternative_names(X509 *certificate) {
  return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

static inline int mr_GENERAL_NAMES_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }

// The bytes of name number `index`; `type` is GEN_DNS or GEN_IPADD, else 0 and no bytes.
static inline const unsigned char *mr_GENERAL_NAMES_at(const GENERAL_NAMES *names, int index, int *type, int *length) {
  *type = 0;
  *length = 0;
  const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  if (name == NULL || (name->type != GEN_DNS && name->type != GEN_IPADD)) return NULL;
  const ASN1_STRING *text = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
  *type = name->type;
  *length = ASN1_STRING_length(text);
  return ASN1_STRING_get0_data(text);
}

static inline void mr_GENERAL_NAMES_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }

// Seconds since 1970 of a certificate time; returns 0 when it is not a valid time.
static inline int mr_ASN1_TIME_seconds(const ASN1_TIME *time, long long *seconds) {
  ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
  int days = 0, rest = 0;
  int ok = epoch != NULL && ASN1_TIME_diff(&days, &rest, epoch, time);
  ASN1_TIME_free(epoch);
  *seconds = (long long)days * 86400 + rest;
  return ok;
}

static inline int mr_X509_set_validity(X509 *certificate, long long from, long long until) {
  return ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)from) != NULL &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)until) != NULL;
}

// A random serial number of up to 128 bits, never zero.
static inline int mr_X509_set_random_serial(X509 *certificate) {
  BIGNUM *number = BN_new();
  int ok = number != NULL && BN_rand(number, 128, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) && !BN_is_zero(number) &&
           BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
  BN_free(number);
  return ok;
}

// Verifies a certificate for use as a TLS server against trusted roots only, at a given time.
// Returns X509_V_OK or the error; security level 2 refuses SHA-1 signatures and short keys.
static inline int mr_X509_verify_server(X509 *certificate, X509_STORE *roots, long long at) {
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  if (context == NULL) return X509_V_ERR_OUT_OF_MEM;
  int error = X509_V_ERR_UNSPECIFIED;
  if (X509_STORE_CTX_init(context, roots, certificate, NULL)) {
    X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_time(parameters, (time_t)at);
    X509_VERIFY_PARAM_set_auth_level(parameters, 2);
    X509_VERIFY_PARAM_set_depth(parameters, 1);
    X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
    error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
    if (error == X509_V_OK && X509_STORE_CTX_get0_cert(context) != certificate) error = X509_V_ERR_UNSPECIFIED;
  }
  X509_STORE_CTX_free(context);
  return error;
}

static inline int mr_X509_NAME_print(BIO *out, const X509_NAME *name) {
  return X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
}

// DER of PKCS#8 PrivateKeyInfo; free it with mr_OPENSSL_free. Returns its length or a value below 1.
static inline int mr_EVP_PKEY_pkcs8(const EVP_PKEY *key, unsigned char **der) {
  PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
  if (info == NULL) return -1;
  int length = i2d_PKCS8_PRIV_KEY_INFO(info, der);
  PKCS8_PRIV_KEY_INFO_free(info);
  return length;
}

#endif
