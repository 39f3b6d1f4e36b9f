# `toJSON`. From 100000.
n:
builtins.stringLength (
  builtins.toJSON (
    builtins.genList (i: {
      a = i;
      b = "s${toString i}";
    }) n
  )
)
