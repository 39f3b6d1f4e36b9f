# `elem` in a long list. From 100000.
n:
let
  l = builtins.genList (i: i) n;
in
builtins.foldl' (a: i: if builtins.elem i l then a + 1 else a) 0 (builtins.genList (i: i) 1000)
