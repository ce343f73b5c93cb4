# One of three members of etcd that accept peers and clients only with certificates.
{ certificates, members }:
{ config, lib, ... }:
let
  name = config.networking.hostName;
in
{
  services.etcd = {
    enable = true;
    openFirewall = true;
    listenClientUrls = [ "https://0.0.0.0:2379" ];
    listenPeerUrls = [ "https://0.0.0.0:2380" ];
    advertiseClientUrls = [ "https://${name}:2379" ];
    initialAdvertisePeerUrls = [ "https://${name}:2380" ];
    initialCluster = map (member: "${member}=https://${member}:2380") members;
    trustedCaFile = "${certificates}/ca.pem";
    certFile = "${certificates}/member.pem";
    keyFile = "${certificates}/member-key.pem";
    clientCertAuth = true;
    peerClientCertAuth = true;
  };

  environment.variables = lib.mapAttrs' (key: lib.nameValuePair "ETCDCTL_${key}") {
    ENDPOINTS = "https://${name}:2379";
    CACERT = "${certificates}/ca.pem";
    CERT = "${certificates}/client.pem";
    KEY = "${certificates}/client-key.pem";
  };
}
