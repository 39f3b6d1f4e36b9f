# A large set filtered, renamed, mapped and intersected by functions of the language. From 10000.
n:
let
  set = builtins.listToAttrs (
    builtins.genList (i: {
      name = "attr${toString i}";
      value = { v = i; };
    }) n
  );
  keep = name: set.${name}.v / 2 * 2 == set.${name}.v;
  even = builtins.removeAttrs set (builtins.filter (name: !keep name) (builtins.attrNames set));
  renamed = builtins.listToAttrs (
    map (name: {
      name = "x-${name}";
      value = even.${name};
    }) (builtins.attrNames even)
  );
  named = builtins.mapAttrs (name: value: value // { inherit name; }) renamed;
in
[
  (builtins.length (builtins.attrNames (builtins.intersectAttrs even set)))
  (builtins.foldl' (a: x: a + x.v + builtins.stringLength x.name) 0 (builtins.attrValues named))
]
