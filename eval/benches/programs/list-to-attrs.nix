# A set with many names. From 100000.
n:
builtins.length (
  builtins.attrNames (
    builtins.listToAttrs (
      builtins.genList (i: {
        name = "n${toString i}";
        value = i;
      }) n
    )
  )
)
