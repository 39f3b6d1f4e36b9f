# Derivations meant with all that they need. From 100.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
      dep = if i == 0 then "" else (d (i - 1)).drvPath;
    };
in
(d n).drvPath
