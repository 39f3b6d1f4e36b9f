# A string that grows by `+`. From 200000.
n:
builtins.stringLength (builtins.foldl' (a: i: a + "x${toString i}") "" (builtins.genList (i: i) n))
