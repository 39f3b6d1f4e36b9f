# One pattern, many short texts. From 80000.
n:
builtins.foldl' (
  a: i: a + (if builtins.match "([a-z]+)-([0-9.]+)" "package-${toString i}.1" != null then 1 else 0)
) 0 (builtins.genList (i: i) n)
