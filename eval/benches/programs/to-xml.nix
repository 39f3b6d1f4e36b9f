# `toXML`. From 50000.
n:
builtins.stringLength (
  builtins.toXML (
    builtins.genList (i: {
      a = i;
      b = "s";
    }) n
  )
)
