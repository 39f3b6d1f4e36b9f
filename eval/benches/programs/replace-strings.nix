# Several patterns in one long string. From 100000.
n:
let
  s = builtins.concatStringsSep "" (builtins.genList (i: "abcdefghij") n);
in
builtins.stringLength (
  builtins.replaceStrings
    [
      "a"
      "bc"
      "ghij"
    ]
    [
      "xx"
      ""
      "y"
    ]
    s
)
