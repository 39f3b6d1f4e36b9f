# Modules that declare options and define those of others, each looking through all. From 1500.
n:
let
  option = default: merge: {
    isOption = true;
    inherit default merge;
  };
  modules = map (m: m { inherit config; }) (builtins.genList module n);
  options = join (map (m: m.options) modules);
  join = builtins.zipAttrsWith (_: sets: if (builtins.head sets).isOption or false then builtins.head sets else join sets);
  config = merged options (map (m: m.config) modules);
  merged =
    options: definitions:
    builtins.mapAttrs (
      name: option:
      let
        here = builtins.catAttrs name definitions;
      in
      if !(option.isOption or false) then
        merged option here
      else if here == [ ] then
        option.default
      else
        option.merge here
    ) options;
  mod = a: b: a - (a / b) * b;
  module =
    i:
    { config }:
    {
      options.services."s${toString i}" = {
        enable = option false builtins.head;
        port = option i builtins.head;
      };
      options.ports = option [ ] builtins.concatLists;
      config.services."s${toString (mod (i * 7) n)}".enable = true;
      config.ports = [ config.services."s${toString i}".port ];
    };
in
[
  (builtins.foldl' (a: x: a + x) 0 config.ports)
  (builtins.stringLength (builtins.toJSON config))
]
