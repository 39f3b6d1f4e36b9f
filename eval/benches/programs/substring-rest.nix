# A long string eaten from the front. From 200000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "abcdefghij") (n / 10));
  go = s: a: if s == "" then a else go (builtins.substring 1 (-1) s) (a + 1);
in
go s 0
