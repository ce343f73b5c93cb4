# A service that runs in one allocation of three. Its image has the gatekeeper as its entry point:
#
#   COPY --from=ghcr.io/etcd-await-election/etcd-await-election:1 /etcd-await-election /usr/bin/
#   ENTRYPOINT ["/usr/bin/etcd-await-election"]
job "my-service" {
  datacenters = ["*"]
  type        = "service"

  update {
    # All new allocations are standbys before the first old one is stopped, so that leadership moves only once.
    canary           = 3
    max_parallel     = 3
    auto_promote     = true
    auto_revert      = true
    health_check     = "checks"
    min_healthy_time = "5s"
  }

  group "my-service" {
    count = 3

    spread {
      attribute = "${node.unique.id}"
    }

    network {
      port "service" {
        to = 8000
      }
      port "status" {
        to = 8080
      }
    }

    # Consul's DNS returns only instances whose checks all pass, which is the leader. A deployment uses only the first check, which
    # standbys pass, too. Nomad's own service discovery ignores checks; there a client requests /leader itself.
    service {
      name = "my-service"
      port = "service"

      check {
        name     = "ready"
        type     = "http"
        port     = "status"
        path     = "/readyz"
        interval = "5s"
        timeout  = "4s"
      }

      check {
        name      = "leader"
        type      = "http"
        port      = "status"
        path      = "/leader"
        interval  = "2s"
        timeout   = "1s"
        on_update = "ignore"
      }
    }

    task "my-service" {
      driver = "docker"

      # STOP_GRACE, at most five seconds for the handover, and some reserve.
      kill_timeout = "30s"

      config {
        image           = "registry.example.com/my-service:1.0.0"
        args            = ["/usr/bin/my-service", "--listen=:8000"]
        ports           = ["service", "status"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      user = "65534:65534"

      env {
        ETCD_AWAIT_ELECTION_LOCK_NAME       = "my-service"
        ETCD_AWAIT_ELECTION_IDENTITY        = "${NOMAD_ALLOC_ID}"
        ETCD_AWAIT_ELECTION_ENDPOINTS       = "https://etcd1:2379,https://etcd2:2379,https://etcd3:2379"
        ETCD_AWAIT_ELECTION_CACERT          = "/secrets/ca.pem"
        ETCD_AWAIT_ELECTION_CERT            = "/secrets/cert.pem"
        ETCD_AWAIT_ELECTION_KEY             = "/secrets/key.pem"
        ETCD_AWAIT_ELECTION_STOP_GRACE      = "20"
        ETCD_AWAIT_ELECTION_STATUS_ENDPOINT = ":8080"
      }

      # The certificates, from a variable:
      #
      #   nomad var put nomad/jobs/my-service ca=@ca.crt cert=@client.crt key=@client.key
      #
      # A new certificate is read for the next connection.
      dynamic "template" {
        for_each = ["ca", "cert", "key"]

        content {
          destination = "secrets/${template.value}.pem"
          data        = "{{ with nomadVar \"nomad/jobs/my-service\" }}{{ .${template.value} }}{{ end }}"
          change_mode = "noop"
          perms       = "0440"
          uid         = 65534
          gid         = 65534
        }
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
