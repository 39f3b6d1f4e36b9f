# `zipAttrsWith` of many sets that overlap. From 2000.
n:
builtins.length (
  builtins.attrNames (
    builtins.zipAttrsWith (n: v: builtins.length v) (
      builtins.genList (
        i:
        builtins.listToAttrs (
          builtins.genList (j: {
            name = "k${toString (i + j)}";
            value = j;
          }) 100
        )
      ) n
    )
  )
)
