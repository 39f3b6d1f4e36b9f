# A chain of derivations with strings that depend on them. From 4000.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
      deps =
        if i == 0 then
          [ ]
        else
          [
            (d' (i - 1))
            (d' (i / 2))
          ];
    };
  l = builtins.genList d n;
  d' = builtins.elemAt l;
in
builtins.stringLength (builtins.foldl' (a: i: (d' i).drvPath) "" (builtins.genList (i: i) n))
