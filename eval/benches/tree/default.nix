# A package set of many files: a library, a builder that checks what it is given, overlays, and a file for each package.
{
  system ? "x86_64-linux",
  overlays ? [ ],
  config ? { },
}:
let
  lib = import ./lib;
  base = final: prev: {
    inherit lib config system;
    pkgs = final;
    callPackage = lib.callWith final;
    callPackages = lib.callWith (final // final.extras);
    extras = { };
    stdenv = import ./build/stdenv.nix { inherit lib config system; };
    fetchurl = final.callPackage ./build/fetchurl.nix { };
    fetchRepository = final.callPackage ./build/fetch-repository.nix { };
  };
  # packages/xy/NAME/package.nix
  found = final: prev:
    let
      top = ./packages;
      inShelf = shelf:
        builtins.mapAttrs (name: kind: final.callPackage (top + "/${shelf}/${name}/package.nix") { }) (builtins.readDir (top + "/${shelf}"));
    in
    builtins.foldl' (all: shelf: all // inShelf shelf) { } (builtins.attrNames (builtins.readDir top));
  listed = import ./listed.nix;
in
lib.fixed (lib.composed ([ base found listed ] ++ overlays))
