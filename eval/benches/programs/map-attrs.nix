# `mapAttrs` over `mapAttrs`. From 100000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = i;
    }) n
  );
  f = builtins.mapAttrs (k: v: v + builtins.stringLength k);
in
builtins.foldl' (a: b: a + b) 0 (builtins.attrValues (f (f s)))
