# A string that grows by interpolation. From 100000.
n:
builtins.stringLength (builtins.foldl' (a: i: "${a}x${toString i}") "" (builtins.genList (i: i) n))
