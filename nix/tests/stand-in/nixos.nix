# A mock of the part of NixOS that the module and its tests use: options as strict as those of NixOS, and units as text.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;

  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      types.package
    ]
  );
  # Several definitions are concatenated if they are lists, and must be equal otherwise.
  setting = lib.mkOptionType {
    name = "systemd option";
    check = value: lib.all atom.check (lib.toList value);
    merge =
      loc: definitions:
      let
        values = map (definition: definition.value) definitions;
      in
      if lib.any lib.isList values then
        if lib.all lib.isList values then
          lib.concatLists values
        else
          throw "${lib.showOption loc} is defined as a list and not as a list"
      else
        lib.mergeEqualOption loc definitions;
  };
  names = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };

  service =
    { config, ... }:
    {
      options =
        lib.genAttrs [
          "after"
          "before"
          "wants"
          "requires"
          "wantedBy"
        ] (_: names)
        // {
          description = mkOption {
            type = types.singleLineStr;
            default = "";
          };
          documentation = names;
          environment = mkOption {
            type = types.attrsOf (types.nullOr types.str);
            default = { };
          };
          path = mkOption {
            type = types.listOf (types.either types.package types.str);
            default = [ ];
          };
          script = mkOption {
            type = types.lines;
            default = "";
          };
          # systemd-analyze(1) checks the names of the settings.
          serviceConfig = mkOption {
            default = { };
            type = types.addCheck (types.attrsOf setting) (_: true);
            description = "[Service]";
          };
          unitConfig = mkOption {
            default = { };
            type = types.attrsOf setting;
          };
        };
      config.serviceConfig = lib.mkIf (config.script != "") { ExecStart = "/script"; };
    };

  show =
    value:
    if value == true then
      "true"
    else if value == false then
      "false"
    else
      toString value;
  section =
    title: settings:
    "[${title}]\n"
    + lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (key: value: map (one: "${key}=${show one}\n") (lib.toList value)) (
          lib.filterAttrs (_: value: value != null) settings
        )
      )
    );
  unit =
    one:
    lib.concatStringsSep "\n" [
      (section "Unit" (
        {
          Description = one.description;
          Documentation = one.documentation;
          After = one.after;
        }
        // one.unitConfig
      ))
      (section "Service" (
        {
          Environment = lib.mapAttrsToList (
            name: value: builtins.toJSON "${name}=${toString value}"
          ) one.environment;
        }
        // one.serviceConfig
      ))
    ];

  option =
    type: default:
    mkOption {
      inherit type default;
    };
  text = option types.str "";
  flag = option types.bool false;
  optionalPath = option (types.nullOr types.path) null;

  # NixOS accepts only maintainers that nixpkgs lists.
  maintainer = lib.mkOptionType {
    name = "maintainer";
    check = value: lib.elem value (lib.attrValues (lib.maintainers or { }));
  };
in
{
  options = {
    meta = {
      maintainers = mkOption {
        type = types.listOf maintainer;
        default = [ ];
      };
      # The defining file is kept, as in NixOS.
      doc = mkOption {
        type = types.path // {
          merge = _: definitions: definitions;
        };
        default = [ ];
        apply = lib.toList;
      };
    };
    assertions = mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            assertion = mkOption { type = types.bool; };
            message = mkOption { type = types.str; };
          };
        }
      );
      default = [ ];
    };
    warnings = names;
    systemd.services = mkOption {
      type = types.attrsOf (types.submodule service);
      default = { };
    };
    systemd.sockets = mkOption {
      type = types.attrsOf (types.submodule { options.listenStreams = names; });
      default = { };
    };
    systemd.units = mkOption {
      type = types.attrsOf types.attrs;
      readOnly = true;
    };
    systemd.tmpfiles.rules = names;
    environment = {
      systemPackages = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
      etc = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = {
              source = mkOption { type = types.path; };
              mode = mkOption {
                type = types.str;
                default = "symlink";
              };
            };
          }
        );
        default = { };
      };
      variables = mkOption {
        type = types.attrsOf types.str;
        default = { };
      };
    };
    users = {
      users = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = {
              isSystemUser = flag;
              group = text;
            };
          }
        );
        default = { };
      };
      groups = mkOption {
        type = types.attrsOf (types.submodule { });
        default = { };
      };
    };
    networking = {
      hostName = mkOption {
        type = types.str;
        default = "nixos";
      };
      firewall.allowedTCPPorts = mkOption {
        type = types.listOf types.port;
        default = [ ];
      };
    };
    services.etcd = {
      enable = flag;
      openFirewall = flag;
      listenClientUrls = names;
      listenPeerUrls = names;
      advertiseClientUrls = names;
      initialAdvertisePeerUrls = names;
      initialCluster = names;
      trustedCaFile = optionalPath;
      certFile = optionalPath;
      keyFile = optionalPath;
      clientCertAuth = flag;
      peerClientCertAuth = flag;
    };
    system.stateVersion = mkOption { type = types.str; };
  };

  config.systemd.units = lib.mapAttrs' (
    name: one: lib.nameValuePair "${name}.service" { text = unit one; }
  ) config.systemd.services;
}
