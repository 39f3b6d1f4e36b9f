# A text cut into its characters, each replaced, and joined again. From 50000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "abcdefghij") (n / 10));
  characters = builtins.genList (i: builtins.substring i 1 s) (builtins.stringLength s);
  upper = builtins.replaceStrings [ "a" "b" "c" ] [ "A" "B" "C" ];
in
builtins.hashString "md5" (builtins.concatStringsSep "" (map upper characters))
