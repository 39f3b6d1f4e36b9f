# Lines of a text, each of many pieces. From 20000.
n:
let
  line = i: "line ${toString i}: ${builtins.concatStringsSep "," (map (j: toString (i * j)) [ 1 2 3 4 5 ])}\n";
in
builtins.hashString "sha256" (builtins.concatStringsSep "" (builtins.genList line n))
