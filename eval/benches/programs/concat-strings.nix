# Many short pieces joined. From 200000.
n: builtins.stringLength (builtins.concatStringsSep "," (builtins.genList (i: toString i) n))
