# Overlays over a set of 5,000. From 100.
n:
let
  base = builtins.listToAttrs (
    builtins.genList (i: {
      name = "p${toString i}";
      value = i;
    }) 5000
  );
  fix =
    f:
    let
      x = f x;
    in
    x;
  ext =
    f: o: self:
    let
      s = f self;
    in
    s // o self s;
  r = fix (
    builtins.foldl' ext (self: base) (
      builtins.genList (k: self: super: {
        "p${toString k}" = super."p${toString (k + 1)}" + 1;
        "q${toString k}" = self.p0;
      }) n
    )
  );
in
builtins.foldl' (a: n: a + (if builtins.isInt r.${n} then r.${n} else 0)) 0 (builtins.attrNames r)
