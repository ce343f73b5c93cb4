# The options of one election, for instances and gates. `etcd` has the defaults of the etcd options, and `own` has what differs
# between the two.
{
  lib,
  etcd,
  own ? { },
}:
{ name, ... }:
let
  inherit (lib) mkOption types;
  generated = import ./options.nix { inherit lib; };

  nixOwn = {
    lock = {
      type = types.str;
      default = if lib.hasSuffix "@" name then "${name}%i" else name;
      defaultText = lib.literalMD "the name, with `%i` for a template";
      example = "production/web";
      note = "systemd's specifiers are expanded, so a percent sign is written `%%`.";
    };
    identity = {
      default = "%H";
      example = "%H-%i";
      note = ''
        The default is the host name. systemd's specifiers are expanded. With `null` it is unset; use that for hosts that have
        the same host name.
      '';
    };
    leaseDuration.example = 30;
    renewDeadline = {
      example = "20s";
      note = "There must be enough time between this and {option}`leaseDuration` to kill the command.";
    };
    retryPeriod.example = "1500ms";
    acquireTimeout = {
      example = 0;
      note = "The program then exits with code 75.";
    };
    forceAcquire.note = ''
      The request is made once at each start. Set it on one host only: if it is set on several hosts, each start moves the
      command.
    '';
    onLoss.note = "With `exit`, systemd starts the unit again, with its {option}`ExecStartPre`.";
    notifyReady.note = ''
      With `"campaigning"`, a boot waits for etcd. With `"elected"`, {command}`systemctl start`, a switch to a new configuration,
      and all units ordered after this one wait on a standby until it leads.
    '';
    statusEndpoint = {
      example = ":8080";
      note = "The firewall is not changed.";
    };
    log.example = "debug";
    stopGrace.example = "2m";
    stopSignal.example = "INT";
  };
in
{
  options = generated.options (lib.recursiveUpdate nixOwn own) generated.ofElection // {
    enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether to enable this election.";
    };

    etcd = import ./etcd.nix {
      inherit lib;
      from = etcd;
    };

    extraEnvironment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        TZ = "UTC";
      };
      description = ''
        Additional variables for the unit and its command. The settings of the election are passed as flags, which take
        precedence over variables.
      '';
    };

    serviceConfig = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      example = {
        WatchdogSec = 60;
      };
      description = ''
        Settings for the `[Service]` section of the unit. They replace those of this module and of the unit.
      '';
    };
  };
}
