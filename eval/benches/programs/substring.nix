# One character of a long string, at every place. From 200000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "abcdefghij") (n / 10));
in
builtins.foldl' (a: i: a + builtins.stringLength (builtins.substring i 1 s)) 0 (
  builtins.genList (i: i) n
)
