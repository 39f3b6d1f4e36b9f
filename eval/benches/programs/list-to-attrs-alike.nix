# Many attributes of one name. From 200000.
n:
builtins.length (
  builtins.attrNames (
    builtins.listToAttrs (
      builtins.genList (i: {
        name = "n";
        value = i;
      }) n
    )
  )
)
