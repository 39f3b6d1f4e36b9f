# `groupBy`. From 100000.
n:
builtins.length (
  builtins.attrNames (builtins.groupBy (i: toString (i / 10)) (builtins.genList (i: i) n))
)
