# Packages called from a large set with a little laid over it for each. From 5000.
n:
let
  pkgs = builtins.listToAttrs (
    builtins.genList (i: {
      name = "p${toString i}";
      value = i;
    }) (n * 4)
  ) // { lib = 1; stdenv = 2; };
  callPackageWith = auto: f: args: f (builtins.intersectAttrs (builtins.functionArgs f) auto // args);
  newScope = extra: callPackageWith (pkgs // extra);
  package = { lib, stdenv, p17, x, y ? 1 }: lib + stdenv + p17 + x + y;
in
builtins.foldl' (a: i: a + newScope { x = i; } package { }) 0 (builtins.genList (i: i) n)
