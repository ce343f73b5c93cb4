# Durations in the syntax of the program: whole seconds, or "1500ms", "2s", "5m". They are compared in milliseconds.
{ lib }:
let
  unit = {
    ms = 1;
    s = 1000;
    m = 60 * 1000;
  };
in
rec {
  type = lib.types.either lib.types.ints.unsigned (lib.types.strMatching "[0-9]{1,12}(ms|s|m)?") // {
    description = ''seconds, or a string such as "1500ms", "2s" or "5m"'';
    descriptionClass = "noun";
  };

  toMilliseconds =
    duration:
    if lib.isInt duration then
      duration * 1000
    else
      let
        parts = builtins.match "([0-9]+)(ms|s|m)?" duration;
        name = lib.elemAt parts 1;
      in
      lib.toIntBase10 (lib.head parts) * unit.${if name == null then "s" else name};

  # Returns a default of the program as a value in Nix.
  fromText = text: if builtins.match "[0-9]+" text != null then lib.toIntBase10 text else text;

  # Rounds up to whole seconds, for settings of systemd.
  toSeconds = duration: (toMilliseconds duration + 999) / 1000;

  # Formats milliseconds as a duration.
  show =
    milliseconds:
    if lib.mod milliseconds 1000 == 0 then
      "${toString (milliseconds / 1000)}s"
    else
      "${toString milliseconds}ms";

  # Converts a systemd time span of one number and one unit; returns null for all others, such as "infinity".
  fromSystemd =
    span:
    let
      parts = builtins.match " *([0-9]{1,9}) *(ms|s|sec|second|seconds|m|min|minute|minutes)? *" (
        toString span
      );
      name = lib.elemAt parts 1;
      number = lib.toIntBase10 (lib.head parts);
      milliseconds =
        number
        * unit.${
          if name == null then
            "s"
          else if name == "ms" then
            "ms"
          else
            lib.substring 0 1 name
        };
    in
    # For systemd, 0 means no limit here.
    if parts == null || number == 0 then null else show milliseconds;
}
