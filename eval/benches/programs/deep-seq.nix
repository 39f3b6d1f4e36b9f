# Forcing a set nested very deep. From 1000000.
n:
let
  l = builtins.foldl' (a: i: {
    n = a;
    v = i;
  }) null (builtins.genList (i: i) (n / 20));
in
builtins.deepSeq l 1
