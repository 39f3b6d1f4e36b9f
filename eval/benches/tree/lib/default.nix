# Each part sees the whole.
let
  lib = parts // {
    inherit (parts.calls) callWith overridable argumentsOf;
    inherit (parts.sets) keepAttrs onlyIf isPackage outputOf;
    inherit (parts.texts) joined startsWith endsWith withoutEnd flag;
    inherit (parts.layers) fixed composed layered;
    inherit (parts.lists) maybe distinct asList every;
  };
  part = file: import file { inherit lib; };
  parts = {
    calls = part ./calls.nix;
    sets = part ./sets.nix;
    texts = part ./texts.nix;
    lists = part ./lists.nix;
    layers = part ./layers.nix;
    licenses = part ./licenses.nix;
    checks = part ./checks.nix;
    people = import ./people.nix;
    platforms = rec {
      linux = [ "x86_64-linux" "aarch64-linux" "i686-linux" "riscv64-linux" ];
      unix = linux ++ [ "x86_64-darwin" "aarch64-darwin" "x86_64-freebsd" ];
      all = unix ++ [ "x86_64-windows" ];
    };
  };
in
lib
