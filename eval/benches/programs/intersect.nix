# Two large sets. From 100000.
n:
let
  m =
    k:
    builtins.listToAttrs (
      builtins.genList (i: {
        name = "n${toString (i * k)}";
        value = i;
      }) n
    );
in
builtins.length (builtins.attrNames (builtins.intersectAttrs (m 2) (m 3)))
