# `tryEval` of what fails half of the time. From 100000.
n:
builtins.foldl' (
  a: i: if (builtins.tryEval (if i / 2 * 2 == i then throw "x" else i)).success then a + 1 else a
) 0 (builtins.genList (i: i) n)
