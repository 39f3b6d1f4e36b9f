# `compareVersions`. From 100000.
n:
builtins.foldl' (a: i: a + builtins.compareVersions "1.2.${toString i}pre" "1.2.5") 0 (
  builtins.genList (i: i) n
)
