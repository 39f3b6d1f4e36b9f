# An array of tables in TOML. From 20000.
n:
builtins.length
  (
    builtins.fromTOML (
      builtins.concatStringsSep "" (builtins.genList (i: "[[a]]\nx = ${toString i}\ny = \"abc\"\n") n)
    )
  ).a
