# A small set and a large one. From 200000.
n:
let
  s = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = i;
    }) n
  );
in
builtins.foldl' (
  a: i:
  a
  + builtins.length (
    builtins.attrNames (
      builtins.intersectAttrs {
        n5 = 1;
        n77 = 2;
      } s
    )
  )
) 0 (builtins.genList (i: i) n)
