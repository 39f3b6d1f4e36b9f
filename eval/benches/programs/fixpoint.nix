# A set whose attributes need others of it. From 50000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = if i == 0 then 0 else (s."n${toString (i / 2)}") + 1;
    }) n
  );
in
builtins.foldl' (a: b: a + b) 0 (builtins.attrValues s)
