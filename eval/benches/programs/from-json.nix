# `fromJSON` of what `toJSON` wrote. From 100000.
n:
builtins.length (
  builtins.fromJSON (
    builtins.toJSON (
      builtins.genList (i: {
        a = i;
        b = "s${toString i}";
      }) n
    )
  )
)
