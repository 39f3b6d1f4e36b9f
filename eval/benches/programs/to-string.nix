# `toString` of lists, numbers and floats. From 50000.
n:
builtins.foldl' (
  a: i:
  a + builtins.stringLength (toString [ i (i * 2) "x" true null ]) + builtins.stringLength (toString (i * 1.5))
) 0 (builtins.genList (i: i) n)
