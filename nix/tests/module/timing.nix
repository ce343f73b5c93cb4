# The module's assertions about timing agree with the program: both are tested with the cases of tests/timing.json.
{ lib, evaluate, ... }:
let
  prefix = "services.etcd-await-election";
  cases = lib.imap0 (number: case: case // { name = "case-${toString number}"; }) (
    lib.importJSON ../../../tests/timing.json
  );
  config = evaluate [
    {
      services.etcd-await-election.instances = lib.listToAttrs (
        map (
          case:
          lib.nameValuePair case.name {
            command = "/bin/true";
            etcd.endpoints = [ "etcd1:2379" ];
            inherit (case) leaseDuration renewDeadline retryPeriod;
          }
        ) cases
      );
    }
  ];
  # The first assertion that fails names the option that the program would name.
  firstRefused =
    name:
    let
      path = "${prefix}.instances.${name}.";
      failed = lib.filter (
        { assertion, message }: !assertion && lib.hasPrefix path message
      ) config.assertions;
      message = lib.removePrefix path (lib.head failed).message;
    in
    if failed == [ ] then null else lib.head (lib.splitString " " message);
in
{
  wrong = lib.concatMap (
    case:
    let
      refused = firstRefused case.name;
    in
    lib.optional (
      refused != case.refused
    ) "${builtins.toJSON (removeAttrs case [ "name" ])}: the module refuses ${builtins.toJSON refused}"
  ) cases;
}
