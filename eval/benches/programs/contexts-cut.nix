# Cutting and joining a string that depends on 200 derivations. From 40000.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
    };
  s = builtins.concatStringsSep " " (builtins.genList (i: "${d i}") 200);
in
builtins.foldl' (a: i: a + builtins.stringLength (builtins.substring i 5 s + s)) 0 (
  builtins.genList (i: 1) n
)
