# A long chain of `//`. From 40000.
n:
builtins.length (
  builtins.attrNames (
    builtins.foldl' (a: i: a // { "k${toString i}" = i; }) { } (builtins.genList (i: i) n)
  )
)
