# Hashing a long string. From 1000000.
n:
builtins.hashString "sha256" (
  builtins.concatStringsSep "" (builtins.genList (i: "0123456789abcdef") n)
)
