{ lib }:
rec {
  argumentsOf = f: if builtins.isAttrs f then f.__functionArgs or (argumentsOf (f.__functor f)) else builtins.functionArgs f;
  # A function with the same arguments as `like`.
  alike = like: f: { __functor = self: f; __functionArgs = argumentsOf like; };
  # Calls a file or function with what it asks for of `scope`, and with `given`.
  callWith = scope: file: given:
    let
      f = if builtins.isFunction file || builtins.isAttrs file then file else import file;
      asked = argumentsOf f;
      arguments = builtins.intersectAttrs asked scope // given;
      missing = builtins.filter (name: !asked.${name} && !(arguments ? ${name})) (builtins.attrNames asked);
    in
    if missing == [ ] then overridable f arguments else throw "nothing provides ${lib.joined ", " missing}";
  # The result can be made again from other arguments.
  overridable = f: arguments:
    let
      result = f arguments;
      changed = new: arguments // (if builtins.isFunction new then new arguments else new);
      again = alike f (new: overridable f (changed new));
      afterwards = g: overridable (alike f (these: g (f these))) arguments;
    in
    if builtins.isAttrs result then
      result // {
        override = again;
        ${if result ? overrideAttrs then "overrideAttrs" else null} = change: afterwards (made: made.overrideAttrs change);
      }
    else if builtins.isFunction result then
      alike result result // { override = again; }
    else
      result;
}
