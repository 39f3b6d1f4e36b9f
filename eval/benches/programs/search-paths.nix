# Search paths of fifty derivations each. From 400.
n:
let
  d =
    i:
    derivation {
      name = "d${toString i}";
      system = "s";
      builder = "b";
    };
  all = builtins.genList d 300;
  path = from: builtins.concatStringsSep ":" (builtins.genList (i: "${builtins.elemAt all (i + from)}/bin") 50);
in
builtins.foldl' (a: i: a + builtins.stringLength (path (i - (i / 250) * 250))) 0 (builtins.genList (i: i) n)
