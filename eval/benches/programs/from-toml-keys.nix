# Many keys in TOML. From 20000.
n:
builtins.length (
  builtins.attrNames (
    builtins.fromTOML (
      builtins.concatStringsSep "" (builtins.genList (i: "k${toString i} = ${toString i}\n") n)
    )
  )
)
