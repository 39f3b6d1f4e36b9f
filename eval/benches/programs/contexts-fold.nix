# A string that grows, and depends on more each time. From 4000.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
    };
  s = builtins.foldl' (a: i: "${a} ${d i}") "" (builtins.genList (i: i) n);
in
builtins.length (builtins.attrNames (builtins.getContext s))
