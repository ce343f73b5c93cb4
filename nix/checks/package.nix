# Checks by evaluation alone that the package follows the rules of nixpkgs.
{
  lib,
  runCommand,
  versionCheckHook,
  etcd-await-election,
}:
let
  package = etcd-await-election;
  # The attributes that reach the builder; others and those in passthru would have no effect.
  attributes = package.drvAttrs;
  later = package.overrideAttrs {
    version = "9.9.9";
    # Without another src nixpkgs would warn about it.
    __intentionallyOverridingVersion = true;
  };

  require = what: holds: lib.optional (!holds) what;
  wrong =
    require "__structuredAttrs is not set" (attributes.__structuredAttrs or false)
    ++ require "strictDeps is not set" (attributes.strictDeps or false)
    ++ require "versionCheckHook does not run" (
      attributes.doInstallCheck or false && lib.elem versionCheckHook attributes.nativeBuildInputs
    )
    ++ require "meta does not follow overrideAttrs: use finalAttrs" (
      lib.hasInfix "/v9.9.9/" later.meta.changelog
    )
    ++ require "passthru.tests is not the NixOS tests" (
      lib.attrNames (package.tests or { }) == [
        "failover"
        "instance"
      ]
    )
    ++ require "passthru.tests does not follow overrideAttrs: use finalAttrs.finalPackage" (
      package.tests.instance.drvPath or null != later.tests.instance.drvPath or null
    )
    ++ require "passthru.updateScript is not set" (package ? updateScript)
    ++ require "meta.maintainers is empty" (package.meta.maintainers or [ ] != [ ])
    ++ require "meta.mainProgram is not the package's name" (
      package.meta.mainProgram == package.pname
    );
in
if wrong == [ ] then
  runCommand "package" { } ''touch "$out"''
else
  throw ("\npackage: " + lib.concatStringsSep "\npackage: " wrong)
