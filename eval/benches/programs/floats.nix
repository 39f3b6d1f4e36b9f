# Arithmetic. From 400000.
n: builtins.foldl' (a: i: a + i * 0.5) 0.0 (builtins.genList (i: i) n)
