# Equality of wide sets. From 100000.
n:
let
  m =
    k:
    builtins.listToAttrs (
      builtins.genList (i: {
        name = "n${toString i}";
        value = [
          i
          k
        ];
      }) n
    );
in
m 1 == m 1
