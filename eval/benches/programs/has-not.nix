# `?` that finds nothing. From 200000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = i;
    }) 1000
  );
in
builtins.foldl' (a: i: if s ? "m${toString i}" then a else a + 1) 0 (builtins.genList (i: i) n)
