# Names in their order. From 100000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString (i * 7919)}";
      value = i;
    }) n
  );
in
builtins.length (builtins.attrNames s) + builtins.length (builtins.attrValues s)
