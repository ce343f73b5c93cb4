# Every visible option has a description, and its default and example can be shown.
{
  lib,
  evaluateOptions,
  ...
}:
let
  options = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList (evaluateOptions [ ]).services.etcd-await-election
  );
  shows =
    option:
    builtins.tryEval (
      builtins.deepSeq [
        (option.default or "")
        (option.example or "")
      ] true
    );
in
{
  wrong =
    lib.concatMap (
      option:
      lib.optional (option.description or null == null) "${option.name} has no description"
      ++ lib.optional (!(shows option).success) "${option.name} has a default that cannot be shown"
    ) options
    # Fails if the options were not found at all.
    ++ lib.optional (lib.length options < 50) "only ${toString (lib.length options)} options";
}
