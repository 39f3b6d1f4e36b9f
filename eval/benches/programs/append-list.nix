# A list that grows by `++`. From 200000.
n: builtins.length (builtins.foldl' (a: i: a ++ [ i ]) [ ] (builtins.genList (i: i) n))
