# The options of one election, the same for an instance and for a gate. `etcd` is where their defaults about etcd come
# from.
{ lib, etcd }:
{ name, ... }:
let
  inherit (lib) mkOption types;
  duration = (import ./duration.nix { inherit lib; }).type;
in
{
  options = {
    enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether this election takes place.";
    };

    lock = mkOption {
      type = types.str;
      default = if lib.hasSuffix "@" name then "${name}%i" else name;
      defaultText = lib.literalMD "the name, with `%i` for a template";
      example = "production/web";
      description = ''
        The lock: one name for all hosts that campaign. systemd's specifiers are expanded, so a percent sign is written
        `%%`. No segment between slashes begins with `~`.
      '';
    };

    identity = mkOption {
      type = types.nullOr types.str;
      default = "%H";
      example = "%H-%i";
      description = ''
        The name of this host in the election; by default the host name. systemd's specifiers are expanded. It must be
        unique and lasting: an instance takes the lead over from an earlier one of its own name. With `null`, the
        program makes up a new name at each start, which is right for hosts that share a host name.
      '';
    };

    etcd = import ./etcd.nix {
      inherit lib;
      from = etcd;
    };

    leaseDuration = mkOption {
      type = duration;
      default = 15;
      example = 30;
      description = ''
        How long etcd keeps the lock for a host that is not heard of, in whole seconds: what a hand-over takes when a
        host or its network is lost.
      '';
    };

    renewDeadline = mkOption {
      type = duration;
      default = 10;
      example = "20s";
      description = ''
        The command is stopped when its lease was not renewed for so long. Between this and {option}`leaseDuration`
        there must be room to end the command.
      '';
    };

    retryPeriod = mkOption {
      type = duration;
      default = 2;
      example = "1500ms";
      description = "How often a leader renews; at most half of {option}`renewDeadline`.";
    };

    acquireTimeout = mkOption {
      type = types.nullOr duration;
      default = null;
      example = 0;
      description = ''
        Give up, with exit code 75, when the lead was not acquired after this time; `0` tries once and does not wait.
        `null` waits for ever.
      '';
    };

    forceAcquire = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to ask the leader, once at each start, to end its command and hand over. Set it on one host only: where
        it is set on several, each start moves the command.
      '';
    };

    onLoss = mkOption {
      type = types.enum [
        "exit"
        "campaign"
      ];
      default = "exit";
      description = ''
        After the lead was lost and the command has ended: exit, so that systemd starts the unit anew with its
        {option}`ExecStartPre`, or campaign again in the same process.
      '';
    };

    notifyReady = mkOption {
      type = types.enum [
        "started"
        "campaigning"
        "elected"
      ];
      default = "started";
      description = ''
        When the unit counts as started: at once, whether or not etcd answers; when it is in the queue; or when the command
        was started. With `"campaigning"` a boot waits for etcd. With `"elected"`, {command}`systemctl start`, a switch to
        a new configuration, and everything ordered after the unit wait on a standby until it leads, for ever if need be.
      '';
    };

    statusEndpoint = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = ":8080";
      description = ''
        Serve status, health and metrics here, as `host:port`, or `:port` for all interfaces. The firewall stays as it
        is.
      '';
    };

    log = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "debug";
      description = "What to log: off, error, warn, info, debug or trace, or a list of target=level.";
    };

    logFormat = mkOption {
      type = types.enum [
        "text"
        "json"
      ];
      default = "text";
      description = "How to log: lines of text, or one JSON object per line.";
    };

    extraEnvironment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        TZ = "UTC";
      };
      description = ''
        More variables for the unit, and so for the command. The election's own settings are passed as flags, which win
        over variables.
      '';
    };

    serviceConfig = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      example = {
        WatchdogSec = 60;
      };
      description = ''
        Settings of the unit's `[Service]` section that replace what is chosen here and what the unit had, for what this
        module decides wrongly.
      '';
    };
  };
}
