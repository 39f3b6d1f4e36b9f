# One long text that matches. From 100000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "ab") n);
in
builtins.length (builtins.match "((ab)*)(.*)" s)
