# Comparing strings that begin alike. From 100000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "ab") 500);
in
builtins.foldl' (a: i: if s + "a" < s + "b" then a + 1 else a) 0 (builtins.genList (i: i) n)
