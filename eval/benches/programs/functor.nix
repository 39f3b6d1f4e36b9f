# Calling a set. From 200000.
n:
let
  f = {
    __functor = self: x: x + self.k;
    k = 1;
  };
in
builtins.foldl' (a: i: f a) 0 (builtins.genList (i: i) n)
