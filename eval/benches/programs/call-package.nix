# A package set in which each package is called with what it names, and can be overridden. From 2500.
n:
let
  callPackage = f: args: overridable f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // args);
  overridable = f: args: f args // { override = new: overridable f (args // new); };
  mkDerivation =
    { name, inputs, ... }:
    {
      inherit name;
      outPath = "/nix/store/${name}";
      text = builtins.concatStringsSep " " (map toString inputs);
    };
  package =
    i:
    {
      stdenv,
      fetchurl,
      ...
    }:
    stdenv.mkDerivation {
      name = "pkg${toString i}";
      inputs =
        if i < 2 then
          [ ]
        else
          [
            pkgs."p${toString (i - 1)}"
            pkgs."p${toString (i / 2)}"
          ];
      src = fetchurl { url = "mirror://x/${toString i}"; };
    };
  pkgs = {
    stdenv = { inherit mkDerivation; };
    fetchurl = { url }: url;
  }
  // builtins.listToAttrs (
    builtins.genList (i: {
      name = "p${toString i}";
      value = callPackage (package i) { };
    }) n
  );
in
builtins.foldl' (a: i: a + builtins.stringLength (pkgs."p${toString i}".override { }).text) 0 (
  builtins.genList (i: i) n
)
