# Sorting numbers in no order. From 50000.
n:
let
  m = a: b: a - (a / b) * b;
  l = builtins.genList (i: m (i * 7919) 1000003) n;
in
builtins.elemAt (builtins.sort (a: b: a < b) l) 5
