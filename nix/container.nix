# An image with the static program and CA certificates, to run or to copy from:
#
#   COPY --from=etcd-await-election /usr/bin/etcd-await-election /usr/bin/
{
  lib,
  dockerTools,
  cacert,
  etcd-await-election,
}:
dockerTools.buildLayeredImage {
  name = etcd-await-election.pname;
  tag = etcd-await-election.version;
  # A file instead of a link into the store: COPY would copy the link.
  extraCommands = ''
    install -D ${lib.getExe etcd-await-election} usr/bin/${etcd-await-election.meta.mainProgram}
  '';
  config = {
    Entrypoint = [ "/usr/bin/${etcd-await-election.meta.mainProgram}" ];
    Env = [ "SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt" ];
    # nobody: the program needs no privileges
    User = "65534:65534";
    Labels = {
      "org.opencontainers.image.description" = etcd-await-election.meta.description;
      "org.opencontainers.image.licenses" = etcd-await-election.meta.license.spdxId;
      "org.opencontainers.image.source" = etcd-await-election.meta.homepage;
      "org.opencontainers.image.version" = etcd-await-election.version;
    };
  };
}
