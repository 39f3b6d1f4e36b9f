# Small recursive sets. From 200000.
n:
builtins.foldl' (
  x: i:
  x
  + (rec {
    a = i;
    b = a + 1;
    c = b + a;
  }).c
) 0 (builtins.genList (i: i) n)
