import Foundation
import XCTest

@testable import PKI

/// Certificates that a stock 0.77.2 server made.
final class StockCertificateTests: XCTestCase {
  private let authority = """
    -----BEGIN CERTIFICATE-----
    MIIDSzCCAjOgAwIBAgIQQdBRPjTvl1BesegvIAWPJDANBgkqhkiG9w0BAQsFADAa
    MRgwFgYDVQQKEw9WZWxvY2lyYXB0b3IgQ0EwHhcNMjYxMTIzMTMwMjU4WhcNMzYx
    MTIwMTMwMjU4WjAaMRgwFgYDVQQKEw9WZWxvY2lyYXB0b3IgQ0EwggEiMA0GCSqG
    SIb3DQEBAQUAA4IBDwAwggEKAoIBAQDQCb+48x6SRVqj4EG2hwlM6l2ft8r+Ddio
    X6iuvoxS/mVJo05JsLBLgY136zqYuZkBwngF/vmxFoLBYN7oCDCuM5gfVfJTBKwP
    PLlRUizXRGKkbVNHY0t1f+1/EzBy+5m3pkMF1s1fYndkrNwJX4Yz9apHL9uIxD4e
    3WKXEPRCpHkicPvz+xAtVeO3stN0mgW9cOmLECGo23FaHQDyIqYZwEIpKVMkOXi5
    1aP71QWq4NGm9Og3vjyoADVHwPYx5Lj9auAsuwJ8//QiqcJaSPuLsmX5r1nVeIk7
    hzJZubktsD7QKFwQ9eF/uR+0jqm75dF4u+We4erd2nqaaPYKyiRXAgMBAAGjgYww
    gYkwDgYDVR0PAQH/BAQDAgKkMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggrBgEFBQcD
    AjAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBQcVEp+u88/EITlpFGDqaxX4R3+
    1zAoBgNVHREEITAfgh1WZWxvY2lyYXB0b3JfY2EudmVsb2NpZGV4LmNvbTANBgkq
    hkiG9w0BAQsFAAOCAQEAxqrqrbQpB6R3qdAJsuegwdbtWDfE/PazEFMficqUJhSh
    TbAjxsEdoQXbXS0kdcCVO5UbQGVoAQoVZpNPAWc0EDGqAmNNieTL1+HDOwV2SjqV
    lRNeFwufMyQ7pm8PYrc0+36B2OxoweyW92270XsCsuUMCRl6zxEnJDdUVCj40hPL
    OfNr7J80CJDSRsF/KgwuvhX0mvi7F7FAb0XBYZfgkNN/1//YQcdo0oq2QQ1F6efD
    M406ZPRBZmdEAnXnMw1PZCsZdyxAlg+cTiqWlpKvCpx70uwfqfhkDPm6sjPAPqMf
    raWTW82X7zAeYyvvuDTb5NcRRrdvv2jwOQWc6sb8TA==
    -----END CERTIFICATE-----

    """

  private let gateway = """
    -----BEGIN CERTIFICATE-----
    MIIDQjCCAiqgAwIBAgIRAN1z4+TCOMUgGkKJ5oTrNjowDQYJKoZIhvcNAQELBQAw
    GjEYMBYGA1UEChMPVmVsb2NpcmFwdG9yIENBMB4XDTI2MTEyMzEzMDI1OFoXDTI3
    MTEyMzEzMDI1OFowKTEVMBMGA1UEChMMVmVsb2NpcmFwdG9yMRAwDgYDVQQDDAdH
    UlBDX0dXMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwcIJjbQ3IoQ1
    eQ0dopMXFAjxKI/Kas4vVuHDKLUsdhgKUuGnZvkAZCu5HkWP86QiHNC7ILLN1C9t
    Ay7GoT3gxHWZeDzG1yjCSMYjjUm4AEKPmujQNQAC/hSzlmYMkHm/l4fvh2N4gkWv
    6fHTIfCjNY5Waqi9rJfDl44o7ByWob5/aSNkfR5BOuj+bpRxBc9HpCBq+4ChIjgW
    EY8Ju7+9M2vxDicfcuYofx4RILBFopI8soDoKXcOdSwpLf9RlWijtK7rycQJeqqz
    ag8TAbJD7v1siMv3KJOEh+FpQD/kq+Dkt9YSqoVrfkHcHdCU6T+E/NVDMugJWZSd
    IUJfXYImvQIDAQABo3QwcjAOBgNVHQ8BAf8EBAMCBaAwHQYDVR0lBBYwFAYIKwYB
    BQUHAwEGCCsGAQUFBwMCMAwGA1UdEwEB/wQCMAAwHwYDVR0jBBgwFoAUHFRKfrvP
    PxCE5aRRg6msV+Ed/tcwEgYDVR0RBAswCYIHR1JQQ19HVzANBgkqhkiG9w0BAQsF
    AAOCAQEAasfWefmn3jBqCirRcvaIwJ/M7rt8e3fOWC0NJr9fIgU1wyDJgY8S8Pq3
    IsgPOrcevc4XGiWl4YoJQr5FUOGzz9ngBJx9SOBgEcPIJE/n+Qkij+p04jgZ912c
    ZCKj0YwWVW2fYcjRO/tWZrh/h6+nZEm+6z/NP0ZTR9aMMPmJgLaoTXxNmp0A4bQ+
    HO7WRfKFslUfcEVbQvAxHorMrhFFUTEv467z3PQOvWfVen2XKmJcG45gtP7p+D8k
    whIiCcMEJqCrhaNDlx76FjLPIXqXixW9BX6hMl4qKtB/ZfKD134R537DRjKsldQZ
    Z3GD89iRQXfHuyJAHIPE00VJuRHcBg==
    -----END CERTIFICATE-----

    """

  private let frontend = """
    -----BEGIN CERTIFICATE-----
    MIIDVzCCAj+gAwIBAgIQWJyV/IBsSIxTWeifhMC5QDANBgkqhkiG9w0BAQsFADAa
    MRgwFgYDVQQKEw9WZWxvY2lyYXB0b3IgQ0EwHhcNMjYxMTIzMTMwMjU4WhcNMjcx
    MTIzMTMwMjU4WjA0MRUwEwYDVQQKEwxWZWxvY2lyYXB0b3IxGzAZBgNVBAMTElZl
    bG9jaXJhcHRvclNlcnZlcjCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEB
    ANGdPvriHnlbohp2ieb4krVnVP5dqGP7uQ5C7CseOqdO1GiqnFcY6flLTdRy0s/e
    aGx3dBte4rRGwDa1Kkw0NfcsSljaVlMNzft+KPBOrFe4fgEBPLKyD8WrpMgCARS6
    e3Me7x5nJRY1/v1/YIcmquBDYg971Aj0xGQR8PfJL/e3iVKw8NaPj64CP+0E3txM
    bCbockAxwy/aKc3Zx6dvLi4ZOlHqAjxHJzk5Y18Cp+B/Ag7x0gMDGwUQ0X9/I2dO
    9q8AzT9QRv44Nd/UC/GPUdLTk0PTzyLhsMwt4j+V+8/9S6obQ+9QVc2i1L1x+Rcs
    fJFdBnoy1tsnxEhWS05ifm0CAwEAAaN/MH0wDgYDVR0PAQH/BAQDAgWgMB0GA1Ud
    JQQWMBQGCCsGAQUFBwMBBggrBgEFBQcDAjAMBgNVHRMBAf8EAjAAMB8GA1UdIwQY
    MBaAFBxUSn67zz8QhOWkUYOprFfhHf7XMB0GA1UdEQQWMBSCElZlbG9jaXJhcHRv
    clNlcnZlcjANBgkqhkiG9w0BAQsFAAOCAQEABKTOCFFqfVO0M09w3gk9g4zSsUga
    DMn9VzJ/HY95P7HpTnyohvnL3Cg7VbDmUJz2g/CMB06czrS7o23THzUYuGoCHXu7
    gKzHeC/o1of2/446BABwDJJCrv8r/YxGh/nTf2cbOoJmWp4yWsGD48uLv6Jr74Oc
    cpUqgcz25VxMTGH2lMNIwAsOzbXasWllxC/hG/xYJeNNxOq62o8ZMeDuECRM2APB
    DKKAMU5iZj1WvR5CyG4JjAk0wBztFcngQNQhm0WaiAbydvZVJhp+f0/MskCts2JE
    T+F153ztEvTb1NgcgGFf6UkPZ3ALpNbsdF9+bTaci4I1S19RS20MpA20xA==
    -----END CERTIFICATE-----

    """

  /// 2026-11-24.
  private let time = Date(timeIntervalSince1970: 1_795_478_400)

  func testStockServerCertificateIsAccepted() throws {
    let accepted = try ServerCertificateCheck(caPEM: authority).verify(frontend, now: time)
    XCTAssertEqual(accepted.name, "VelociraptorServer")
    XCTAssertEqual(accepted.certificate.subject, "CN=VelociraptorServer,O=Velociraptor")
    XCTAssertEqual(accepted.publicKey.bits, 2048)
  }

  func testTheGatewaysIsNot() throws {
    XCTAssertEqual(
      refusal { try ServerCertificateCheck(caPEM: authority).verify(gateway, now: time) },
      "Invalid server certificate common name! Expected VelociraptorServer, found GRPC_GW")
  }

  /// Ours carry the same usages, names and lifetimes.
  func testOursAreAlike() throws {
    let stock = (ca: try Certificate(pem: authority), leaf: try Certificate(pem: frontend))
    let ours = (ca: try Sample.authority.get().certificate, leaf: try Sample.messageCertificate())
    for (left, right) in [(stock.ca, ours.ca), (stock.leaf, ours.leaf)] {
      XCTAssertEqual(left.subject, right.subject)
      XCTAssertEqual(left.issuer, right.issuer)
      XCTAssertEqual(left.dnsNames, right.dnsNames)
      XCTAssertEqual(left.extendedUsage, right.extendedUsage)
      XCTAssertEqual(left.isCA, right.isCA)
      XCTAssertEqual(left.notAfter.timeIntervalSince(left.notBefore), right.notAfter.timeIntervalSince(right.notBefore))
    }
  }
}
