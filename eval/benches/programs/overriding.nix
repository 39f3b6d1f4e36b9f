# Overriding in chains: arguments, and attributes that see the final ones. From 1000.
n:
let
  inherit (builtins) foldl' genList functionArgs isFunction intersectAttrs mapAttrs removeAttrs;
  mirror = f: fd: { __functor = self: f; __functionArgs = fd; };
  makeOverridable = f: orig: let
      result = f orig;
      ow = new: orig // (if isFunction new then new orig else new);
    in result // { override = new: makeOverridable f (ow new); overrideDerivation = g: makeOverridable (a: g (f a)) orig; };
  mkDrv = fnOrAttrs: let
      make = rattrs: let args = rattrs (args // { inherit finalPackage overrideAttrs; });
        overrideAttrs = f0: make (self: let super = rattrs self; in super // (if isFunction f0 then let g = f0 self; in if isFunction g then g super else f0 super else f0));
        finalPackage = { type = "derivation"; name = "${args.pname}-${args.version}"; inherit overrideAttrs; passthru = args.passthru or { }; flags = args.flags or [ ]; } // (args.passthru or { });
      in finalPackage;
    in make (if isFunction fnOrAttrs then fnOrAttrs else _: fnOrAttrs);
  pkg = i: { a ? 1, b ? 2, flags ? [ ], ... }: mkDrv (final: { pname = "p${toString i}"; version = "${toString a}.${toString b}"; inherit flags; passthru = { tests = final.pname; inherit a b; }; });
  one = i: let
    p = makeOverridable (pkg i) { };
    q = foldl' (p: k: p.override (old: { a = (old.a or 0) + k; })) p (genList (k: k) 8);
    r = foldl' (p: k: p.overrideAttrs (f: s: { flags = s.flags ++ [ "-f${toString k}" ]; passthru = s.passthru // { "x${toString k}" = f.version; }; })) q (genList (k: k) 6);
  in builtins.stringLength (r.name + r.tests + builtins.concatStringsSep " " r.flags + r.x3);
in foldl' (a: i: a + one i) 0 (genList (i: i) n)
