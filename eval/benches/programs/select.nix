# Selection by computed names, each another. From 200000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = i;
    }) n
  );
in
builtins.foldl' (a: i: a + s."n${toString i}") 0 (builtins.genList (i: i) n)
