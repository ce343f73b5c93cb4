# The options of one election, the same for an instance and for a gate. `etcd` is where their defaults about etcd come from, and
# `own` what is different for the one or the other.
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
        By default this is the host name. systemd's specifiers are expanded. `null` leaves it unset, which is right for hosts
        that share a host name.
      '';
    };
    leaseDuration.example = 30;
    renewDeadline = {
      example = "20s";
      note = "Between this and {option}`leaseDuration` there must be room to kill the command.";
    };
    retryPeriod.example = "1500ms";
    acquireTimeout = {
      example = 0;
      note = "The exit code is 75 then.";
    };
    forceAcquire.note = ''
      The request is made once at each start. Set it on one host only: if it is set on several hosts, each start moves the
      command.
    '';
    onLoss.note = "With `exit`, systemd starts the unit again, with its {option}`ExecStartPre`.";
    notifyReady.note = ''
      With `"campaigning"` a boot waits for etcd. With `"elected"`, {command}`systemctl start`, a switch to a new configuration,
      and everything ordered after the unit wait on a standby until it leads.
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
      description = "Whether this election takes place.";
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
        More variables for the unit, and so for the command. The election's own settings are passed as flags, which come before
        variables.
      '';
    };

    serviceConfig = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      example = {
        WatchdogSec = 60;
      };
      description = ''
        Settings of the unit's `[Service]` section. They replace what this module sets and what the unit had.
      '';
    };
  };
}
