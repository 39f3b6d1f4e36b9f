# A derivation with many inputs. From 5000.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
    };
in
(derivation {
  name = "all";
  system = "s";
  builder = "b";
  deps = builtins.genList d n;
}).drvPath
