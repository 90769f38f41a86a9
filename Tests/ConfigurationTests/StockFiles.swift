/// Files that a stock 0.77.2 wrote, for tests. Keys and certificates of the server file are cut.
enum StockFiles {
  static let client = #"""
    version:
      name: velociraptor
      version: 0.77.2
      commit: v0.77.2
      compiler: go1.25.5
      system: linux
      architecture: amd64
    Client:
      server_urls:
      - https://127.0.0.1:18100/
      ca_certificate: |
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
      nonce: m1AUbpfvkdY=
      writeback_darwin: /etc/velociraptor.writeback.yaml
      writeback_linux: /var/lib/velociraptor/client.writeback.yaml
      writeback_windows: $ProgramFiles\Velociraptor\velociraptor.writeback.yaml
      level2_writeback_suffix: .bak
      tempdir_windows: $ProgramFiles\Velociraptor\Tools
      max_poll: 5
      nanny_max_connection_delay: 600
      windows_installer:
        service_name: Velociraptor
        install_path: $ProgramFiles\Velociraptor\Velociraptor.exe
        service_description: Velociraptor service
      darwin_installer:
        service_name: com.velocidex.velociraptor
        install_path: /usr/local/bin/velociraptor
      version:
        name: velociraptor
        version: 0.77.2
        commit: v0.77.2
        compiler: go1.25.5
        system: linux
        architecture: amd64
      server_version:
        version: 0.77.2
        commit: v0.77.2
      use_self_signed_ssl: true
      max_upload_size: 5242880
      local_buffer:
        memory_size: 52428800
        disk_size: 1073741824
        filename_linux: /var/lib/velociraptor/client_buffer.bin
        filename_windows: $TEMP/Velociraptor_Buffer.bin
        filename_darwin: /var/tmp/Velociraptor_Buffer.bin
    """#

  static let server = #"""
    version:
      name: velociraptor
      version: 0.77.2
      commit: v0.77.2
      compiler: go1.25.5
      system: linux
      architecture: amd64
    Client:
      server_urls:
      - https://127.0.0.1:18100/
      ca_certificate: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
      nonce: m1AUbpfvkdY=
      writeback_darwin: /etc/velociraptor.writeback.yaml
      writeback_linux: /var/lib/velociraptor/client.writeback.yaml
      writeback_windows: $ProgramFiles\Velociraptor\velociraptor.writeback.yaml
      level2_writeback_suffix: .bak
      tempdir_windows: $ProgramFiles\Velociraptor\Tools
      max_poll: 5
      nanny_max_connection_delay: 600
      windows_installer:
        service_name: Velociraptor
        install_path: $ProgramFiles\Velociraptor\Velociraptor.exe
        service_description: Velociraptor service
      darwin_installer:
        service_name: com.velocidex.velociraptor
        install_path: /usr/local/bin/velociraptor
      server_version:
        version: 0.77.2
        commit: v0.77.2
      use_self_signed_ssl: true
      max_upload_size: 5242880
      local_buffer:
        memory_size: 52428800
        disk_size: 1073741824
        filename_linux: /var/lib/velociraptor/client_buffer.bin
        filename_windows: $TEMP/Velociraptor_Buffer.bin
        filename_darwin: /var/tmp/Velociraptor_Buffer.bin
    API:
      bind_address: 127.0.0.1
      bind_port: 18101
      bind_scheme: tcp
    GUI:
      bind_address: 127.0.0.1
      bind_port: 18102
      gw_certificate: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
      gw_private_key: |
        -----BEGIN RSA PRIVATE KEY-----
        AAAA
        -----END RSA PRIVATE KEY-----
      public_url: https://127.0.0.1:18102/app/index.html
      links:
      - text: Documentation
        url: https://docs.velociraptor.app/
        icon_url: data:image/svg+xml;base64,AAAA
        type: sidebar
        new_tab: true
      authenticator:
        type: Basic
    CA:
      private_key: |
        -----BEGIN RSA PRIVATE KEY-----
        AAAA
        -----END RSA PRIVATE KEY-----
    Frontend:
      hostname: 127.0.0.1
      bind_address: 127.0.0.1
      bind_port: 18100
      certificate: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
      private_key: |
        -----BEGIN RSA PRIVATE KEY-----
        AAAA
        -----END RSA PRIVATE KEY-----
      dyn_dns: {}
      default_client_monitoring_artifacts:
      - Generic.Client.Stats
      GRPC_pool_max_size: 100
      GRPC_pool_max_wait: 60
      resources:
        connections_per_second: 100
        notifications_per_second: 30
        max_upload_size: 104857600
        expected_clients: 30000
    Datastore:
      implementation: FileBaseDataStore
      location: /var/lib/velociraptor/data
      filestore_directory: /var/lib/velociraptor/data
      compression: zlib
    Logging:
      output_directory: /var/lib/velociraptor/logs
      separate_logs_per_component: true
      debug: {}
      info:
        rotation_time: 604800
        max_age: 31536000
      error:
        rotation_time: 604800
        max_age: 31536000
    Monitoring:
      bind_address: 127.0.0.1
      bind_port: 18103
    api_config: {}
    obfuscation_nonce: o16/H5U1Ee0=
    defaults:
      hunt_expiry_hours: 168
      notebook_cell_timeout_min: 10
    security: {}
    """#
}
