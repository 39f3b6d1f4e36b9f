# Functions with named arguments and defaults. From 200000.
n:
let
  f =
    {
      a,
      b ? a,
      c ? b,
      ...
    }@args:
    a + b + c;
in
builtins.foldl' (
  x: i:
  x
  + f {
    a = i;
    d = 1;
  }
) 0 (builtins.genList (i: i) n)
