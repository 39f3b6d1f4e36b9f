# What a package says of itself, and whether it may be used.
{ lib }:
let
  kinds = {
    description = builtins.isString;
    homepage = value: builtins.isString value || builtins.isList value;
    changelog = builtins.isString;
    license = value: builtins.isAttrs value || builtins.isList value;
    maintainers = builtins.isList;
    platforms = builtins.isList;
    mainProgram = builtins.isString;
    broken = builtins.isBool;
  };
in
{
  problem = { config, system, attrs }:
    let
      meta = attrs.meta or { };
      wrong = builtins.filter (name: !(kinds ? ${name}) || !kinds.${name} meta.${name}) (builtins.attrNames meta);
      isFree = builtins.all (license: license.free or true) (lib.asList (meta.license or [ ]));
    in
    if !isFree && !(config.allowUnfree or false) then
      "is not free"
    else if meta.broken or false then
      "is broken"
    else if !builtins.elem system (meta.platforms or [ system ]) then
      "is not for ${system}"
    else if wrong != [ ] then
      "has a wrong ${lib.joined ", " wrong}"
    else
      null;
  said = { attrs, problem, place }:
    {
      inherit (attrs) name;
      outputsToInstall = [ (if builtins.elem "bin" (attrs.outputs or [ ]) then "bin" else "out") ];
    }
    // attrs.meta or { }
    // lib.onlyIf (place != null) { position = "${baseNameOf place.file}:${toString place.line}"; }
    // { available = problem == null; };
}
