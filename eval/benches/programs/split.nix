# `split` of a long text. From 100000.
n:
let
  s = builtins.concatStringsSep "," (builtins.genList (i: toString i) n);
in
builtins.length (builtins.split "," s)
