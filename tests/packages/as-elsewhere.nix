# As files begin that are written for nixpkgs: `<nixpkgs>` is the library.
{
  pkgs ? import <nixpkgs> { },
}:
let
  lib = import <nixpkgs/lib>;
  greet = pkgs.writeShellApplication {
    name = "greet";
    text = "echo hello from ${lib.versions.major pkgs.lib.version}";
  };
in
with import <nixpkgs> { config.allowUnfree = true; };
runCommand "as-elsewhere" { nativeBuildInputs = [ greet ]; } "greet > $out"
