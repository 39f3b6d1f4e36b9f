# A chain of `//`, read at each link. From 20000.
n:
let
  r =
    builtins.foldl'
      (
        a: i:
        let
          s = a.s // { "k${toString i}" = i; };
        in
        {
          inherit s;
          t = a.t + (if i > 0 then s."k${toString (i - 1)}" else 0);
        }
      )
      {
        s = { };
        t = 0;
      }
      (builtins.genList (i: i) n);
in
r.t
