# Each pattern used once. From 20000.
n:
builtins.foldl' (
  a: i: a + (if builtins.match "x${toString i}(.*)" "x${toString i}abc" != null then 1 else 0)
) 0 (builtins.genList (i: i) n)
