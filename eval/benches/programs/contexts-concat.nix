# One string that depends on many derivations. From 4000.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
    };
  s = builtins.concatStringsSep " " (builtins.genList (i: "${d i}") n);
in
builtins.length (builtins.attrNames (builtins.getContext s))
